"""Projects of a few quick stages, in a copy of this one's code: what `pipeline run` is tried on."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
from workspace import Workspace, copy_project

JOB = """
import os, sys, time
from pathlib import Path

name, *needs = sys.argv[1:]
print(f"{name} begins", flush=True)
Path(f"{name}.pid").write_text(str(os.getpid()))
time.sleep(float(Path("seconds.txt").read_text()))
if Path("fail").exists() and name == Path("fail").read_text():
    print("error: it was asked to", file=sys.stderr)
    sys.exit(3)
Path("out").mkdir(exist_ok=True)
text = name + "".join(Path(f"out/{need}.txt").read_text() for need in needs)
Path(f"out/{name}.txt").write_text(text + Path("source.txt").read_text())
with Path("ran.txt").open("a") as file:
    file.write(f"{name}\\n")
"""
STAGES = {"a": [], "b": [], "c": ["a"], "d": ["a", "b"], "e": ["d"]}


def make_last(work: Workspace, seconds: float) -> None:
    """From now on a job takes so long; its stage stays the same."""
    (work.root / "seconds.txt").write_text(str(seconds))


def write_stages(root: Path, stages: Mapping[str, Sequence[str]]) -> None:
    lines = ["stages:"]
    for name, needs in stages.items():
        lines += [f"  {name}:", f"    cmd: python -m job {name} {' '.join(needs)}".rstrip(), "    deps:"]
        lines += ["      - source.txt", *(f"      - out/{need}.txt" for need in needs)]
        lines += ["    outs:", f"      - out/{name}.txt"]
    (root / "dvc.yaml").write_text("\n".join(lines) + "\n")


def wait(until: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; it may do so while it is looked at."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def make_project(folder: Path, stages: Mapping[str, Sequence[str]] = STAGES) -> Workspace:
    """A project with quick stages of its own."""
    found = copy_project(folder)
    for name in ("dvc.lock", "ran.txt"):
        (found.root / name).unlink(missing_ok=True)
    (found.root / "job.py").write_text(JOB)
    (found.root / "source.txt").write_text("1")
    write_stages(found.root, stages)
    make_last(found, 0.1)
    found.run("git", "init", "-q")
    return found


def forget(work: Workspace) -> None:
    """Remove all that was made."""
    shutil.rmtree(work.root / ".dvc" / "cache")
    shutil.rmtree(work.root / "out")
    (work.root / "dvc.lock").unlink()
    for path in work.root.glob("*.pid"):
        path.unlink()
    list_ran(work)


def drive(work: Workspace, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return work.run(sys.executable, "-m", "pipeline", "run", "--slots", "2", *arguments, ok=ok)


def list_ran(work: Workspace) -> list[str]:
    """The jobs that ran since the last call."""
    path = work.root / "ran.txt"
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def start(work: Workspace, *arguments: str) -> "subprocess.Popen[bytes]":
    """`pipeline run` in the background; what it says goes to said.txt."""
    with (work.root / "said.txt").open("wb") as said:
        return work.start(sys.executable, "-m", "pipeline", "run", *arguments, output=said)


def finish(running: "subprocess.Popen[bytes]", work: Workspace, status: int) -> str:
    """Wait for its end, with a status; returns what it said."""
    assert running.wait(240) == status, (work.root / "said.txt").read_text()
    return (work.root / "said.txt").read_text()


def wait_for(work: Workspace, *names: str) -> list[int]:
    """The processes of jobs, once they run."""
    deadline = time.monotonic() + 120
    while not all((work.root / f"{name}.pid").exists() for name in names):
        assert time.monotonic() < deadline, (work.root / "said.txt").read_text()
        time.sleep(0.05)
    time.sleep(0.2)
    return [int((work.root / f"{name}.pid").read_text()) for name in names]
