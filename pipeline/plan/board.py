"""What has become of each stage of a run, how long the rest takes, and how that is said."""

import sys
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Literal

from pipeline.plan.text import format_seconds
from pipeline.run.process import find_maker
from pipeline.schema.base import SpecError
from pipeline.schema.files import replace_file
from pipeline.schema.ledger import read_ledger
from pipeline.schema.study import Step

_LINE_SECONDS, _BLINK_SECONDS = 10.0, 0.2
"""Between two lines of a log, and between two changes of a terminal's line."""
_UNKNOWN_SECONDS = 3.0
"""Of a stage of which nothing is known."""
State = Literal["waiting", "running", "kept", "restored", "made", "failed", "blocked"]


@dataclass
class Board:
    """What has become of each stage."""

    needs: Mapping[str, Collection[str]]
    states: dict[str, State]
    expected: Mapping[str, float]
    """Seconds, by kind of stage, that it took before."""
    started: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """That stages took in this run, by kind."""
    problems: list[str] = field(default_factory=list)

    def list(self, *states: State) -> list[str]:
        """The stages in these states, in order."""
        return [name for name, state in self.states.items() if state in states]

    def block(self, name: str) -> None:
        """Mark all that need a failed stage."""
        todo = deque([name])
        while todo:
            failed = todo.popleft()
            for other, needs in self.needs.items():
                if failed in needs and self.states[other] == "waiting":
                    self.states[other] = "blocked"
                    todo.append(other)

    def estimate(self, name: str) -> float:
        """Seconds that a stage will take."""
        kind = kind_of(name)
        seen = self.seconds.get(kind)
        return sum(seen) / len(seen) if seen else self.expected.get(kind, _UNKNOWN_SECONDS)

    def foresee(self, slots: int) -> float:
        """Seconds until the end, if all that waits must run."""
        now = time.monotonic()
        left = sum(self.estimate(name) for name in self.list("waiting"))
        left += sum(max(0.0, self.estimate(name) - now + self.started[name]) for name in self.list("running"))
        return left / slots


def kind_of(name: str) -> str:
    """A stage's name without its item and grid: stages of one kind take about as long."""
    return name.split("@")[0].removesuffix("_more")


class Display:
    """What is said while stages run: a line that changes on a terminal, else a line every ten seconds at most."""

    def __init__(self) -> None:
        self.terminal, self._last = sys.stderr.isatty(), 0.0

    def show(self, board: Board, slots: int) -> None:
        """Say how far the work is."""
        now = time.monotonic()
        if now - self._last < (_BLINK_SECONDS if self.terminal else _LINE_SECONDS):
            return
        self._last = now
        total, waiting, running = len(board.states), board.list("waiting"), board.list("running")
        done = total - len(waiting) - len(running)
        parts = [f"{done} of {total} stages, {100 * done // total} %"]
        if failed := board.list("failed"):
            parts.append(f"{len(failed)} failed")
        if running:
            parts.append(
                "runs: " + ", ".join(f"{name} ({format_seconds(now - board.started[name])})" for name in running)
            )
        if waiting:
            parts.append(f"next: {waiting[0]}")
        if waiting or running:
            parts.append(f"at most about {format_seconds(board.foresee(slots))} left")  # less what is in the cache
        self.say("; ".join(parts), end="" if self.terminal else "\n")

    def say(self, text: str, end: str = "\n") -> None:
        """Write a line to stderr; on a terminal, in place of the one that changes."""
        if self.terminal:
            text = f"\r\033[K{text}"
        print(text, end=end, file=sys.stderr, flush=True)


_FOLDERS: dict[Step, str] = {"train": "runs", "sample": "samples", "evaluate": "evaluations", "measure": "evaluations"}


def _times_path(root: Path) -> Path:
    return root / "logs" / "seconds.tsv"


def _read_ledgers(root: Path) -> dict[str, float]:
    """Mean seconds by kind of stage, on whatever machine the committed outputs were made."""
    seen = dict[str, list[float]]()
    for path in sorted((root / "ledger").glob("*/*.tsv")):
        for entry in read_ledger(path):
            kind = find_maker(Path(_FOLDERS[entry.step]) / path.parent.name / path.stem)
            if kind is not None and entry.seconds is not None:
                seen.setdefault(kind, []).append(entry.seconds)
    return {kind: fmean(values) for kind, values in seen.items()}


def read_times(root: Path) -> dict[str, float]:
    """Seconds that a stage of each kind took: in the last run here, else as the ledgers say."""
    try:
        known = _read_ledgers(root)
    except (SpecError, OSError):  # it only foretells
        known = {}
    try:
        rows = [line.split("\t") for line in _times_path(root).read_text(encoding="utf-8").splitlines()]
        return known | {kind: float(seconds) for kind, seconds in rows}
    except (OSError, ValueError):
        return known


def write_times(root: Path, board: Board) -> None:
    """Keep what stages took in this run, for the next forecast."""
    times = read_times(root) | {kind: fmean(seen) for kind, seen in board.seconds.items()}
    with replace_file(_times_path(root)) as partial:
        partial.write_text("".join(f"{kind}\t{seconds:.2f}\n" for kind, seconds in sorted(times.items())))
