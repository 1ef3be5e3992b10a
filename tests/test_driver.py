"""`pipeline run` does what `dvc repro` does, beside each other: same lock, nothing lost, problems told by name."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest
from workspace import Workspace, copy_project

pytestmark = pytest.mark.ci
JOB = """
import os, sys, time
from pathlib import Path

name, seconds, *needs = sys.argv[1:]
print(f"{name} begins", flush=True)
Path(f"{name}.pid").write_text(str(os.getpid()))
time.sleep(float(seconds))
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


def write_stages(root: Path, seconds: float = 0.1, stages: Mapping[str, Sequence[str]] = STAGES) -> None:
    lines = ["stages:"]
    for name, needs in stages.items():
        lines += [f"  {name}:", f"    cmd: python -m job {name} {seconds} {' '.join(needs)}".rstrip(), "    deps:"]
        lines += ["      - source.txt", *(f"      - out/{need}.txt" for need in needs)]
        lines += ["    outs:", f"      - out/{name}.txt"]
    (root / "dvc.yaml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    """A project with five quick stages of its own, in a copy of this one's code."""
    found = copy_project(tmp_path / "project")
    for name in ("dvc.lock", "ran.txt"):
        (found.root / name).unlink(missing_ok=True)
    (found.root / "job.py").write_text(JOB)
    (found.root / "source.txt").write_text("1")
    write_stages(found.root)
    found.run("git", "init", "-q")
    return found


def drive(work: Workspace, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return work.run(sys.executable, "-m", "pipeline", "run", "--slots", "2", *arguments, ok=ok)


def list_ran(work: Workspace) -> list[str]:
    """The jobs that ran since the last call."""
    path = work.root / "ran.txt"
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def start(work: Workspace) -> "subprocess.Popen[bytes]":
    with (work.root / "said.txt").open("wb") as said:
        return work.start(sys.executable, "-m", "pipeline", "run", "--slots", "2", output=said)


def wait_for(work: Workspace, *names: str) -> list[int]:
    """The processes of jobs, once they run."""
    deadline = time.monotonic() + 120
    while not all((work.root / f"{name}.pid").exists() for name in names):
        assert time.monotonic() < deadline, (work.root / "said.txt").read_text()
        time.sleep(0.05)
    time.sleep(0.2)
    return [int((work.root / f"{name}.pid").read_text()) for name in names]


def test_the_lock_is_that_of_dvc_repro_and_nothing_runs_twice(work: Workspace):
    work.run("dvc", "repro")
    serial, outputs = work.read("dvc.lock"), {path.name: path.read_text() for path in (work.root / "out").iterdir()}
    shutil.rmtree(work.root / ".dvc" / "cache")
    shutil.rmtree(work.root / "out")
    (work.root / "dvc.lock").unlink()
    list_ran(work)
    drive(work)
    assert sorted(list_ran(work)) == ["a", "b", "c", "d", "e"]
    assert work.read("dvc.lock") == serial
    assert {path.name: path.read_text() for path in (work.root / "out").iterdir()} == outputs
    assert "up to date" in work.run("dvc", "status").stdout
    assert "5 kept" in drive(work).stderr
    (work.root / "source.txt").write_text("2")
    drive(work)
    assert len(list_ran(work)) == 5
    (work.root / "source.txt").write_text("1")  # back: from the run-cache
    assert "5 restored" in drive(work).stderr
    assert work.read("dvc.lock") == serial
    assert work.executed() == set()
    assert not list_ran(work)


def test_a_target_runs_with_what_it_needs(work: Workspace):
    drive(work, "d")
    assert sorted(list_ran(work)) == ["a", "b", "d"]
    said = drive(work, "nix", ok=False)
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "nix" in said.stderr


def test_where_a_stage_fails_the_others_go_on_and_it_is_named(work: Workspace):
    (work.root / "fail").write_text("b")
    said = drive(work, ok=False)
    assert said.returncode == 1
    assert "failed: b (status 3, logs/b.txt): error: it was asked to" in said.stderr
    assert sorted(list_ran(work)) == ["a", "c"]
    assert "2 made, 1 failed, 2 blocked" in said.stderr
    assert sorted(work.read("dvc.lock")["stages"]) == ["a", "c"]
    (work.root / "fail").unlink()
    drive(work)
    assert sorted(list_ran(work)) == ["b", "d", "e"]


def test_what_was_edited_meanwhile_is_not_recorded(work: Workspace):
    write_stages(work.root, 3)
    running = start(work)
    wait_for(work, "a", "b")
    (work.root / "source.txt").write_text("edited")
    assert running.wait(120) == 1
    said = (work.root / "said.txt").read_text()
    assert "a: source.txt was edited while it ran: its result is not recorded" in said
    assert not (work.root / "dvc.lock").exists()


def test_a_second_one_says_so_in_one_line(work: Workspace):
    write_stages(work.root, 5)
    running = start(work)
    wait_for(work, "a")
    second = drive(work, ok=False)
    assert second.returncode == 1
    assert "another `dvc` or `pipeline run` is at work here" in second.stderr
    assert second.stderr.count("\n") == 1
    assert work.run("dvc", "repro", ok=False).returncode != 0
    assert running.wait(120) == 0
    assert sorted(list_ran(work)) == ["a", "b", "c", "d", "e"]


def test_beside_dvc_repro_it_says_so_and_that_one_goes_on(work: Workspace):
    """While its stage runs, `dvc repro` lets go of DVC's lock."""
    write_stages(work.root, 5)
    with (work.root / "said.txt").open("wb") as said:
        running = work.start("dvc", "repro", output=said)
    wait_for(work, "a")
    refused = drive(work, ok=False)
    assert refused.returncode == 1
    assert "at work here" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert running.wait(120) == 0
    assert len(list_ran(work)) == 5


def test_asked_to_end_it_ends_its_stages_and_goes_on_later(work: Workspace):
    write_stages(work.root, 30)
    running = start(work)
    jobs = wait_for(work, "a", "b")
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 130
    assert not any(psutil.pid_exists(job) for job in jobs)
    write_stages(work.root, 0.1)
    drive(work)
    assert sorted(list_ran(work)) == ["a", "b", "c", "d", "e"]


def test_killed_it_takes_its_stages_along_and_loses_nothing_that_was_done(work: Workspace):
    drive(work, "a", "b")
    list_ran(work)
    write_stages(work.root, 30)
    running = start(work)
    jobs = wait_for(work, "c")
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(job) for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(psutil.pid_exists(job) for job in jobs)
    write_stages(work.root, 0.1)
    drive(work)


def test_a_stage_that_is_killed_is_named_and_the_rest_goes_on(work: Workspace):
    write_stages(work.root, 4)
    running = start(work)
    (job, _) = wait_for(work, "b", "a")
    os.kill(job, signal.SIGKILL)
    assert running.wait(120) == 1
    assert "failed: b (SIGKILL, logs/b.txt)" in (work.root / "said.txt").read_text()
    assert sorted(list_ran(work)) == ["a", "c"]


def test_a_stage_runs_the_code_that_is_on_disk(work: Workspace):
    """It is forked from a process that has imported packages alone."""
    code = "import sys; from pathlib import Path; assert 'torch' in sys.modules\n"
    code += "from pipeline.schema.base import MARK\nPath('out').mkdir(exist_ok=True)\n"
    code += "Path('out/a.txt').write_text(MARK)\n"
    (work.root / "job.py").write_text(code)
    with (work.root / "pipeline" / "schema" / "base.py").open("a") as file:
        file.write("\nMARK = 'from disk'\n")
    drive(work, "a")
    assert (work.root / "out" / "a.txt").read_text() == "from disk"
