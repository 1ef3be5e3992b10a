"""What `python -m pipeline run` and `dvc repro` add to a stage: trivial stages, in a project of their own.

    python -m benchmarks.driver --stages 100 --repro 10

`dvc repro` runs only some of the stages, as each takes seconds where there are many. Seconds of CPU are those of the
command and its children; the stages themselves do next to nothing.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_STAGE = """  job{index}:
    cmd: touch out/{index}.txt
    deps: [source/{index}.txt]
    outs: [out/{index}.txt]
"""


@dataclass(frozen=True)
class Taken:
    """Seconds of a command."""

    wall: float
    cpu: float


def make_project(root: Path, stages: int) -> None:
    """A DVC project with this project's code and trivial stages."""
    for name in ("pipeline", "specs"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "params.yaml", root)
    (root / "source").mkdir()
    (root / "out").mkdir()
    for index in range(stages):
        (root / "source" / f"{index}.txt").write_text(str(index))
    (root / "dvc.yaml").write_text("stages:\n" + "".join(_STAGE.format(index=index) for index in range(stages)))
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)


def measure(root: Path, *command: str) -> Taken:
    """Run a module of Python in the project."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    subprocess.run([sys.executable, "-m", *command], cwd=root, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(time.perf_counter() - start, cpu)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, default=100)
    parser.add_argument("--repro", type=int, default=10, help="stages that `dvc repro` runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        root.mkdir()
        make_project(root, arguments.stages)
        run = measure(root, "pipeline", "run", "--slots", "2")
        nothing = measure(root, "pipeline", "run", "--slots", "2")
        status = measure(root, "dvc", "status")
        for index in range(arguments.repro):
            (root / "source" / f"{index}.txt").write_text("edited")
        names = [f"job{index}" for index in range(arguments.repro)]
        repro = measure(root, "dvc", "repro", "--single-item", *names)
        idle = measure(root, "dvc", "repro", "--single-item", *names)
    rows = {
        f"run, {arguments.stages} stages": run,
        "run with nothing to do": nothing,
        "dvc status": status,
        f"dvc repro, {arguments.repro} of them": repro,
        "dvc repro with nothing to do": idle,
    }
    for name, taken in rows.items():
        print(f"{name:32} {taken.wall:7.1f} s, {taken.cpu:7.1f} s of CPU")
    of_run = (run.cpu - nothing.cpu) / arguments.stages
    of_repro = (repro.cpu - idle.cpu) / arguments.repro
    print(f"a stage adds {of_run:.3f} s of CPU to run, {of_repro:.3f} s to dvc repro: ratio {of_run / of_repro:.3f}")
    print(f"nothing to do: run / dvc status = {nothing.wall / status.wall:.2f}")


if __name__ == "__main__":
    main()
