"""Whether a training's memory grows: 10,000 steps of each study, as a stage, with a state saved every ten seconds.

    python -m benchmarks.memory

The digits' data and batches, with networks small enough for minutes. Memory is what the process holds (resident) after
one to nine tenths of the way.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from benchmarks.load import copy_project, measure
from benchmarks.report import ROOT

_SECONDS = 0.5
"""Between two looks."""


def _edit(path: Path, source: Path, **changes: dict[str, Any]) -> None:
    """A file of settings with other values; keys are joined by two underscores."""
    content = YAML().load(source)
    for key, values in changes.items():
        place = content
        for part in key.split("__"):
            place = place[part]
        place.update(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    YAML().dump(content, path)


def prepare(root: Path, steps: int) -> None:
    """The project with small networks and so many steps."""
    copy_project(root)
    shutil.copytree(ROOT / "specs", root / "specs")
    _edit(root / "params.yaml", ROOT / "params.yaml", resources={"checkpoint_minutes": 1 / 6})
    training = {"batch_size": 96, "epochs": -(-steps // 15)}
    network = {"channels": 8, "stem_channels": 8, "groups": 4}
    node, ddpm = "specs/node/study.yaml", "specs/ddpm/study.yaml"
    _edit(root / node, ROOT / node, cases__digits__training=training, cases__digits__network=network)
    training, network = {"steps": steps, "snapshot_every": steps // 4}, {"channels": 8, "groups": 4}
    _edit(root / ddpm, ROOT / ddpm, cases__digits__training=training, cases__digits__network=network)


def watch(root: Path, study: str, steps: int) -> list[tuple[int, float]]:
    """Train; the step and the megabytes held, from time to time."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    log, seen = root / "log", []
    with log.open("wb") as file:
        command = [sys.executable, "-m", f"stages.train_{study}", "digits", "baseline", "0"]
        process = psutil.Popen(command, cwd=root, env=environment, stderr=file)
        while True:
            try:
                process.wait(_SECONDS)
                break
            except psutil.TimeoutExpired:
                if told := re.findall(r"(\d+)/\d+ \[", log.read_text(encoding="utf-8")):
                    seen.append((int(told[-1]), process.memory_info().rss / 1e6))
    if process.returncode:
        raise SystemExit(log.read_text(encoding="utf-8"))
    return seen


def main() -> None:
    """Print one line a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        root.mkdir()
        prepare(root, steps)
        for study in ("node", "ddpm"):
            measure(root, ("python", "-m", "stages.fetch", study, "digits"))
            seen = watch(root, study, steps)
            tenths = [next(held for step, held in seen if step >= part * steps // 10) for part in range(1, 10)]
            told = " ".join(f"{held:.0f}" for held in tenths)
            growth = f"{tenths[-1] - tenths[0]:+.0f} MB from the first to the last of these"
            print(f"{study}: {told} MB; {growth}; at the end {seen[-1][1]:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
