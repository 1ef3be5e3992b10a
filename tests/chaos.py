"""Kills DVC, or `pipeline run`, and their stages at random moments, goes on, and compares all with an undisturbed run.

    make chaos            or, in tests/: python -m chaos --kills 50 --seed 0
                          and with --driver `pipeline run` in place of `dvc repro`

A reduced panel of the digits whose trainings save their state after every step. Every kill is aimed at a stage, and
each kind of stage is aimed at as often as the others. The moment is a random one of the time that the stage takes
undisturbed and a little longer, so that some kills hit DVC while it writes down what the stage did. When the panel is
complete it is compared, and, while kills are left, made anew from nothing.
"""

import argparse
import math
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil
from workspace import Workspace, list_outputs, make_reduced

WAYS: tuple[tuple[str, signal.Signals], ...] = (
    ("dvc", signal.SIGKILL),
    ("stage", signal.SIGKILL),
    ("all", signal.SIGKILL),
    ("all", signal.SIGTERM),
    ("all", signal.SIGINT),
    ("stage", signal.SIGTERM),
)
"""Whom, with what: a crash, out of memory, a power cut, `docker stop`, Ctrl-C, a stop of the stage alone."""
_KINDS = {
    "NODE training": ("train_node",),
    "DDPM training": ("train_ddpm",),
    "sampling": ("sample",),
    "evaluation": ("evaluate", "reference"),
    "rendering": ("render", "draw", "text", "report"),
    "the rest": ("check", "fetch", "extractor", "record", "measure", "architecture", "strict"),
}
"""Kinds of stages, by how their names begin; the first that fits."""
_BEYOND = 1.2
"""Of the time that a stage takes: until when a kill that is aimed at it may come."""
_PER_ROUND = 18
"""Kills until the panel is compared and made anew."""
_LOOK = 0.02
"""Seconds between two looks at what DVC says."""
_GIVING_UP = 5.0
"""Seconds that DVC may take to end after its stage did."""
_ENDING = 60.0
"""Seconds that what was killed may take to be gone."""


def make_panel(folder: Path) -> Workspace:
    """The project under test: trainings long enough to be hit, with a state after every step."""
    workspace = make_reduced(folder)
    params = workspace.read("params.yaml")
    params["resources"]["checkpoint_minutes"] = 0.0
    workspace.write("params.yaml", params)
    node = workspace.read("specs/node/study.yaml")
    node["cases"]["digits"]["training"] |= {"epochs": 4}
    workspace.write("specs/node/study.yaml", node)
    ddpm = workspace.read("specs/ddpm/study.yaml")
    ddpm["cases"]["digits"]["training"] |= {"steps": 60, "snapshot_every": 30}
    ddpm["cases"]["digits"]["sampling"] |= {"first_snapshot": 30, "images": 200, "batch_size": 20, "steps": 10}
    workspace.write("specs/ddpm/study.yaml", ddpm)
    return workspace


def compare(calm: dict[str, str], workspace: Workspace, targets: Sequence[str]) -> list[str]:
    """What differs from the undisturbed run, and what DVC finds changed."""
    found = list_outputs(workspace)
    status = workspace.run("dvc", "status", *targets).stdout
    return [path for path in calm.keys() | found.keys() if calm.get(path) != found.get(path)] + (
        [] if "up to date" in status else [status]
    )


@dataclass(frozen=True)
class Kill:
    """A moment, and who gets what then."""

    stage: str
    """Which runs at that moment, or has just ended."""
    delay: float
    """Seconds after it began."""
    whom: str
    number: signal.Signals


def find_kind(stage: str) -> str:
    """The kind of a stage."""
    return next(kind for kind, starts in _KINDS.items() if stage.startswith(starts))


class Runs:
    """What is disturbed: `dvc repro`, or `pipeline run`, which runs two stages at once.

    Args:
        targets: of the command; all stages if there are none.
    """

    def __init__(self, workspace: Workspace, driver: bool, targets: Sequence[str]) -> None:
        self.workspace, self.driver, self.targets = workspace, driver, targets
        begin = ("python", "-m", "pipeline", "run", "--slots", "2") if driver else ("dvc", "repro")
        self.command = (*begin, *targets)
        self._log = workspace.root.parent / "log"

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the command."""
        shutil.rmtree(self.workspace.root / "logs", ignore_errors=True)
        with self._log.open("wb") as file:
            return self.workspace.start(*self.command, output=file)

    def list_begun(self) -> list[str]:
        """Stages that it has begun to run."""
        if not self.driver:
            return re.findall(r"Running stage '([^']+)'", self._log.read_text(encoding="utf-8", errors="replace"))
        logs = self.workspace.root.glob("logs/*.txt")
        return [path.stem for path in sorted(logs, key=lambda path: path.stat().st_mtime_ns)]

    def fail(self) -> NoReturn:
        """Say that it failed without a kill."""
        raise AssertionError(f"{' '.join(self.command)} failed:\n{self._log.read_text()}")


def time_stages(runs: Runs) -> dict[str, float]:
    """Run undisturbed; seconds from each stage's begin to the next one's, in the order in which they ran."""
    begun: dict[str, float] = {}
    process = runs.start()
    while process.poll() is None:
        time.sleep(_LOOK)
        for stage in runs.list_begun():
            begun.setdefault(stage, time.monotonic())
    if process.returncode:
        runs.fail()
    ends = [*list(begun.values())[1:], time.monotonic()]
    return {stage: end - start for (stage, start), end in zip(begun.items(), ends, strict=True)}


def aim(seconds: dict[str, float], count: int, chance: random.Random) -> list[Kill]:
    """Kills in the order of the stages; every kind of stage gets its share."""
    kinds: dict[str, list[str]] = {}
    for stage in seconds:
        kinds.setdefault(find_kind(stage), []).append(stage)
    order = list(kinds)
    chance.shuffle(order)
    stages = [chance.choice(kinds[order[number % len(order)]]) for number in range(count)]
    places = {stage: place for place, stage in enumerate(seconds)}
    return [
        Kill(stage, chance.uniform(0, seconds[stage] * _BEYOND), *chance.choice(WAYS))
        for stage in sorted(stages, key=places.__getitem__)
    ]


def strike(process: "subprocess.Popen[bytes]", whom: str, number: signal.Signals, driver: bool) -> None:
    """Kill DVC, its stage, or all that belongs to it; then wait until all of it is gone."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        if driver and whom == "stage":  # the driver's own children fork stages, and stay as long as others go on
            own = psutil.Process(process.pid).children()
            children = [child for child in children if child not in own]
    except psutil.NoSuchProcess:
        children = []
    targets = {"dvc": [process.pid], "stage": [child.pid for child in children]}
    for pid in targets.get(whom, [process.pid, *(child.pid for child in children)]):
        if psutil.pid_exists(pid):
            try:
                psutil.Process(pid).send_signal(number)
            except psutil.NoSuchProcess:
                continue
    _, alive = psutil.wait_procs(children, timeout=_ENDING)
    if alive:
        raise AssertionError(f"{whom} got {number.name}; still there: {alive}")
    spared = whom == "stage" or number == signal.SIGINT  # which DVC leaves to its stage
    try:
        process.wait(_GIVING_UP if spared else _ENDING)
    except subprocess.TimeoutExpired:
        if not spared:
            raise AssertionError(f"{whom} got {number.name}; DVC is still there") from None
        strike(process, "all", signal.SIGKILL, driver)  # the stage had just ended by itself, and DVC went on


def disturb(runs: Runs, kill: Kill, order: Sequence[str]) -> str | None:
    """Go on until the moment of the kill, and kill; the stage that ran then, None if all was done before it came.

    Args:
        order: of the stages; where the one that is aimed at has nothing more to do, a later one is hit.
    """
    late = set(order[order.index(kill.stage) :])
    runs.workspace.run("python", "-m", "pipeline", "recover")
    process = runs.start()
    moment = math.inf
    while time.monotonic() < moment:
        if process.poll() is not None:
            if process.returncode:
                runs.fail()
            return None
        time.sleep(_LOOK)
        if moment == math.inf and not late.isdisjoint(runs.list_begun()):
            moment = time.monotonic() + kill.delay
    last = runs.list_begun()[-1]
    strike(process, kill.whom, kill.number, runs.driver)
    return last


def wreak(folder: Path, count: int, seed: int, targets: Sequence[str] = (), driver: bool = False) -> Counter[str]:
    """Kill so many times; the kinds of stages that were hit.

    Args:
        targets: of the command; all stages if there are none.
        driver: whether it is `pipeline run` that is disturbed, and not `dvc repro`.

    Raises:
        AssertionError: an output is another one than in the undisturbed run, or something does not end or go on.
    """
    chance, hit = random.Random(seed), Counter[str]()  # noqa: S311 - moments, not secrets
    workspace = make_panel(folder / "project")
    workspace.run("git", "commit", "-qam", "panel")
    runs = Runs(workspace, driver, targets)
    seconds = time_stages(runs)
    calm = list_outputs(workspace)
    print(f"undisturbed: {len(calm)} outputs of {len(seconds)} stages, {sum(seconds.values()):.0f} s", flush=True)
    while hit.total() < count:
        workspace.run("git", "clean", "-fdxq")  # nothing was ever run, DVC's cache included
        for kill in aim(seconds, min(_PER_ROUND, count - hit.total()), chance):
            if (last := disturb(runs, kill, list(seconds))) is not None:
                hit[find_kind(last)] += 1
                print(f"{hit.total():4} {kill.whom} {kill.number.name} in {last}", flush=True)
        workspace.run("python", "-m", "pipeline", "recover")
        workspace.run(*runs.command)
        if differing := compare(calm, workspace, targets):
            raise AssertionError("\n".join(["differs:", *differing]))
        print("all outputs as in the undisturbed run", flush=True)
    return hit


def main() -> None:
    """Print one line a kill, and a count; the status is 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--driver", action="store_true", help="disturb `pipeline run` in place of `dvc repro`")
    parser.add_argument("targets", nargs="*", help="stages; all of them without any")
    args = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            hit = wreak(Path(folder), args.kills, args.seed, args.targets, args.driver)
        except AssertionError as error:
            sys.exit(str(error))
    told = ", ".join(f"{count} in {kind}" for kind, count in hit.most_common())
    print(f"{hit.total()} kills: {told}; no output differs; {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
