"""Kills DVC and its stages at random moments, goes on, and compares every output with an undisturbed run.

    make chaos            or, in tests/: python -m chaos --kills 50 --seed 0

A reduced panel of the digits whose trainings save their state after every step. When it is complete it is compared,
and, while kills are left, made anew from nothing.
"""

import argparse
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from workspace import Workspace, make_reduced

WAYS: tuple[tuple[str, signal.Signals], ...] = (
    ("dvc", signal.SIGKILL),
    ("stage", signal.SIGKILL),
    ("all", signal.SIGKILL),
    ("all", signal.SIGTERM),
    ("all", signal.SIGINT),
    ("stage", signal.SIGTERM),
)
"""Whom, with what: a crash, out of memory, a power cut, `docker stop`, Ctrl-C, a stop of the stage alone."""
_LONGEST = 14.0
"""Seconds between kills, at most: most stages take two to six."""
_ENDING = 60.0
"""Seconds that what was killed may take to be gone."""
_BY_CLOCK = ("ledger/", "reports/index.html")
"""Outputs that say how long something took."""


def make_panel(folder: Path) -> Workspace:
    """The project under test: trainings long enough to be hit, with a state after every step."""
    workspace = make_reduced(folder)
    params = workspace.read("params.yaml")
    params["resources"]["checkpoint_minutes"] = 0.0
    workspace.write("params.yaml", params)
    node = workspace.read("specs/node.yaml")
    node["datasets"]["digits"]["training"] |= {"epochs": 4}
    workspace.write("specs/node.yaml", node)
    ddpm = workspace.read("specs/ddpm.yaml")
    ddpm["datasets"]["digits"]["training"] |= {"steps": 60, "snapshot_every": 30}
    ddpm["datasets"]["digits"]["sampling"] |= {"first_snapshot": 30, "images": 200, "batch_size": 20, "steps": 10}
    workspace.write("specs/ddpm.yaml", ddpm)
    return workspace


def list_outputs(workspace: Workspace) -> dict[str, str]:
    """Every output with its hash, as dvc.lock has it."""
    stages: dict[str, Any] = workspace.read("dvc.lock")["stages"]
    outputs = (out for stage in stages.values() for out in stage.get("outs", ()))
    return {str(out["path"]): str(out["md5"]) for out in outputs if not str(out["path"]).startswith(_BY_CLOCK)}


def compare(calm: dict[str, str], workspace: Workspace) -> list[str]:
    """What differs from the undisturbed run, and what DVC finds changed."""
    found = list_outputs(workspace)
    status = workspace.run("dvc", "status").stdout
    return [path for path in calm.keys() | found.keys() if calm.get(path) != found.get(path)] + (
        [] if "up to date" in status else [status]
    )


def find_stage(log: Path) -> str:
    """The group of the stage that ran last."""
    names = re.findall(r"Running stage '([a-z_0-9]+)", log.read_text(encoding="utf-8", errors="replace"))
    return names[-1] if names else "before any stage"


def strike(process: "subprocess.Popen[bytes]", whom: str, number: signal.Signals) -> None:
    """Kill DVC, its stage, or all that belongs to it; then wait until all of it is gone."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    targets = {"dvc": [process.pid], "stage": [child.pid for child in children]}
    for pid in targets.get(whom, [process.pid, *(child.pid for child in children)]):
        if psutil.pid_exists(pid):
            try:
                psutil.Process(pid).send_signal(number)
            except psutil.NoSuchProcess:
                continue
    process.wait(_ENDING)
    _, alive = psutil.wait_procs(children, timeout=_ENDING)
    if alive:
        raise AssertionError(f"{whom} got {number.name}; still there: {alive}")


def main() -> int:
    """Print one line a kill, and a count; the status is 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)  # noqa: S311 - moments, not secrets
    hit: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        workspace, log = make_panel(root / "project"), root / "log"
        workspace.run("git", "commit", "-qam", "panel")
        workspace.run("dvc", "repro")
        calm = list_outputs(workspace)
        print(f"undisturbed: {len(calm)} outputs", flush=True)
        rounds = 0
        while sum(hit.values()) < args.kills:
            workspace.run("git", "clean", "-fdxq")  # nothing was ever run, DVC's cache included
            rounds += 1
            finished = False
            while not finished:
                workspace.run("python", "-m", "pipeline", "recover")
                with log.open("wb") as file:
                    process = workspace.start("dvc", "repro", output=file)
                    delay = chance.uniform(0.5, _LONGEST)
                    whom, number = chance.choice(WAYS)
                    try:
                        finished = process.wait(delay if sum(hit.values()) < args.kills else None) == 0
                        if not finished:
                            raise AssertionError(f"dvc repro failed:\n{log.read_text()}")
                    except subprocess.TimeoutExpired:
                        stage = find_stage(log)
                        strike(process, whom, number)
                        hit[stage] += 1
                        print(f"{sum(hit.values()):4} {delay:5.1f} s {whom} {number.name} in {stage}", flush=True)
            if differing := compare(calm, workspace):
                print("differs:", *differing, sep="\n", file=sys.stderr)
                return 1
            print(f"round {rounds}: all outputs as in the undisturbed run", flush=True)
    print(f"{sum(hit.values())} kills: {', '.join(f'{count} in {stage}' for stage, count in hit.most_common())}")
    return 0


if __name__ == "__main__":
    begun = time.monotonic()
    status = main()
    print(f"{time.monotonic() - begun:.0f} s")
    sys.exit(status)
