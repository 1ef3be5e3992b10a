"""What a big panel costs when nothing is left to train: DVC, validation and rendering, for 50, 300 and 1,000 runs.

    python -m benchmarks.load

Each panel is this project's digits with more seeds, as in `benchmarks.report`: records, curves and ledger of the seeds
that were not run are those that were. Outputs are small files, as many as dvc.lock has, and a dvc.lock that fits. So
what is measured is what DVC and this project add to the runs, in real commands, one after the other.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from benchmarks.report import ROOT, make_panel

COMMANDS: dict[str, tuple[str, ...]] = {
    "check": ("python", "-m", "pipeline", "check", "--quiet"),
    "dvc status": ("dvc", "status", "--quiet"),
    "dvc repro, nothing to do": ("dvc", "repro", "--quiet"),
    "dvc repro of one stage": ("dvc", "repro", "--quiet", "--force", "--single-item", "text@theory"),
    "that stage alone": ("python", "-m", "stages.text", "theory"),
    "Table 1": ("python", "-m", "stages.render", "table1"),
    "every arm of NODE": ("python", "-m", "stages.render", "node_arms"),
    "Figure 7": ("python", "-m", "stages.draw", "figure7"),
    "web page": ("python", "-m", "stages.report"),
}


_LOOK = 0.01
"""Seconds between two looks at a command."""


class Cost(NamedTuple):
    """Of a command."""

    seconds: float
    megabytes: float
    """The most memory that it held (resident), seen until a moment before its end."""


def _read_peak(pid: int) -> float:
    """Megabytes, as Linux counts them for this program alone; wait4's number has the caller's in it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return float(next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), 0)) / 1024


def measure(root: Path, command: Sequence[str]) -> Cost:
    """Run a command that must succeed."""
    environment = {**os.environ, "DVC_SITE_CACHE_DIR": str(root.parent / "home"), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    begun, most = time.perf_counter(), 0.0
    with subprocess.Popen(command, cwd=root, env=environment) as process:
        while process.poll() is None:
            most = max(most, _read_peak(process.pid))
            time.sleep(_LOOK)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
    return Cost(seconds, most)


def copy_project(root: Path) -> None:
    """What git tracks, as a repository; without what a panel brings along."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    brought = ("specs/", "records/", "reports/", "curves/", "ledger/", "metrics/", "params.yaml", "dvc.lock")
    for name in filter(None, listed.split("\0")):
        if not name.startswith(brought):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)


def _count_files(locked: dict[str, Any]) -> dict[str, int]:
    """Files of an output, by the group of its stage and its first folder; 1 for an output that is a file."""
    return {
        f"{name.split('@')[0]} {out['path'].split('/')[0]}": out.get("nfiles", 0)
        for name, stage in locked["stages"].items()
        for out in stage.get("outs", ())
    }


def complete(root: Path) -> int:
    """Make small outputs where there are none and a dvc.lock that says that all was run; returns the stages."""
    from dvc.repo import Repo
    from dvc.stage.serialize import to_single_stage_lockfile

    counts = _count_files(YAML(typ="safe").load(ROOT / "dvc.lock"))
    measure(root, ("python", "-m", "stages.check"))
    with Repo(str(root)) as repo, repo.lock:
        stages = list(repo.index.stages)
        for stage in stages:
            for out in stage.outs:
                path = Path(out.fs_path)
                if path.exists():
                    continue
                if out.def_path.startswith("reports/"):  # a picture of another seed
                    shutil.copyfile(min(path.parent.glob("*.png")), path)
                    continue
                files = counts.get(f"{stage.name.split('@')[0]} {out.def_path.split('/')[0]}", 0)
                path.parent.mkdir(parents=True, exist_ok=True)
                for number in range(files):
                    path.mkdir(exist_ok=True)
                    (path / str(number)).write_text(f"{path} {number}\n", encoding="utf-8")
                if not files:
                    path.write_text(f"{path}\n", encoding="utf-8")
        lock: dict[str, Any] = {"schema": "2.0", "stages": {}}
        for stage in stages:
            stage.save(run_cache=False)
            stage.commit()
            lock["stages"][stage.name] = to_single_stage_lockfile(stage)
    with (root / "dvc.lock").open("w", encoding="utf-8") as file:
        YAML().dump(lock, file)
    return len(stages)


def main() -> None:
    """Print a table, one column a panel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[50, 300, 1000])
    for runs in parser.parse_args().runs:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "project"
            root.mkdir()
            copy_project(root)
            make_panel(root, runs)
            stages = complete(root)
            lines = (root / "dvc.lock").read_text(encoding="utf-8").count("\n")
            print(f"{runs} runs, {stages} stages, dvc.lock of {lines} lines", flush=True)
            measure(root, COMMANDS["dvc status"])  # DVC notes the hashes of what it sees for the first time
            for name, command in COMMANDS.items():
                cost = measure(root, command)
                print(f"  {name:28}{cost.seconds:7.1f} s {cost.megabytes:7.0f} MB", flush=True)


if __name__ == "__main__":
    main()
