"""`python -m pipeline run`: what `dvc repro` does, with stages beside each other, and the same result."""

import signal
import sys
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

from pipeline.plan.dvc import Session, StageError, foresee_stages, open_session
from pipeline.plan.forecast import foresee_check
from pipeline.plan.reasons import explain_change
from pipeline.plan.slots import Slots, count_slots, list_gpus
from pipeline.schema.base import SpecError
from pipeline.schema.compute import load_compute
from pipeline.schema.files import replace_file
from pipeline.schema.project import load_project

_TICK, _LINE_SECONDS, _FLUSH_SECONDS = 0.05, 10.0, 20.0
_UNKNOWN_SECONDS = 3.0
"""Of a stage of which nothing is known."""
State = Literal["waiting", "running", "kept", "restored", "made", "failed", "blocked"]


@dataclass
class _Board:
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

    def _estimate(self, name: str) -> float:
        kind = kind_of(name)
        seen = self.seconds.get(kind)
        return sum(seen) / len(seen) if seen else self.expected.get(kind, _UNKNOWN_SECONDS)

    def foresee(self, slots: int) -> float:
        """Seconds until the end, if all that waits must run."""
        now = time.monotonic()
        left = sum(self._estimate(name) for name in self.list("waiting"))
        left += sum(max(0.0, self._estimate(name) - now + self.started[name]) for name in self.list("running"))
        return left / slots


def kind_of(name: str) -> str:
    """A stage's name without its item: stages of one kind take about as long."""
    return name.split("@")[0]


def _format(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class _Display:
    """What is said while stages run: a line that changes on a terminal, else a line every ten seconds at most."""

    def __init__(self) -> None:
        self.terminal, self._last = sys.stderr.isatty(), 0.0

    def show(self, board: _Board, slots: int, *, force: bool = False) -> None:
        """Say how far the work is."""
        now = time.monotonic()
        if not force and now - self._last < (0.2 if self.terminal else _LINE_SECONDS):
            return
        self._last = now
        total, waiting, running = len(board.states), board.list("waiting"), board.list("running")
        done = total - len(waiting) - len(running)
        parts = [f"{done} of {total} stages, {100 * done // total} %"]
        if failed := board.list("failed"):
            parts.append(f"{len(failed)} failed")
        if running:
            parts.append("runs: " + ", ".join(f"{name} ({_format(now - board.started[name])})" for name in running))
        if waiting:
            parts.append(f"next: {waiting[0]}")
        if waiting or running:
            parts.append(f"about {_format(board.foresee(slots))} left")
        self.say("; ".join(parts), end="" if self.terminal else "\n")

    def say(self, text: str, end: str = "\n") -> None:
        """Write a line to stderr; on a terminal, in place of the one that changes."""
        if self.terminal:
            text = f"\r\033[K{text}"
        print(text, end=end, file=sys.stderr, flush=True)


class _Stop:
    """Counts requests to end: Ctrl-C and SIGTERM."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context manager: requests are counted, and do not end this process."""
        before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Driver:
    """Runs the stages of a session in slots."""

    def __init__(self, session: Session, slots: Slots, board: _Board, display: _Display) -> None:
        self.session, self.slots, self.board, self.display = session, slots, board, display
        self._flushed = time.monotonic()

    def _fail(self, name: str, problem: str) -> None:
        self.board.states[name] = "failed"
        self.board.problems.append(problem)
        self.board.block(name)
        self.display.say(problem)

    def _is_ready(self, name: str) -> bool:
        return all(self.board.states[needed] in ("kept", "restored", "made") for needed in self.board.needs[name])

    def start_ready(self) -> None:
        """Start what can run, as long as there is room; what is up to date or cached needs none."""
        for name in self.board.list("waiting"):
            if not self._is_ready(name) or not self.slots.has_room(name):
                continue
            try:
                outcome = self.session.prepare(name)
            except StageError as error:
                self._fail(name, str(error))
                continue
            if outcome == "run":
                self.slots.start(name, self.session.find_command(name))
                self.board.started[name] = time.monotonic()
            self.board.states[name] = "running" if outcome == "run" else outcome
            self.display.show(self.board, self.slots.count)

    def collect(self) -> None:
        """Record what has ended."""
        for ended in self.slots.collect():
            seconds = time.monotonic() - self.board.started[ended.name]
            if ended.status:
                how = f"status {ended.status}" if ended.status > 0 else signal.Signals(-ended.status).name
                last = _read_last_line(self.slots.log(ended.name))
                log = self.slots.log(ended.name).relative_to(self.slots.root)
                self._fail(ended.name, f"failed: {ended.name} ({how}, {log}){last and f': {last}'}")
                continue
            try:
                self.session.finish(ended.name)
            except StageError as error:
                self._fail(ended.name, str(error))
                continue
            self.board.states[ended.name] = "made"
            self.board.seconds.setdefault(kind_of(ended.name), []).append(seconds)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.session.flush()
            self._flushed = time.monotonic()

    def work(self, stop: _Stop) -> None:
        """Run until nothing is left, or until asked to end: then stages save their states and end."""
        asked = 0
        while True:
            self.collect()
            if stop.count > asked:
                asked = stop.count
                self.slots.send(signal.SIGTERM if asked == 1 else signal.SIGKILL)
                self.display.say("ending: stages save their states; once more ends them at once" if asked == 1 else "")
            if not asked:
                self.start_ready()
            if not self.board.list("running"):
                return
            self.display.show(self.board, self.slots.count)
            time.sleep(_TICK)


def _read_last_line(path: Path) -> str:
    """The last line of a log, which says why a stage failed."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _times_path(root: Path) -> Path:
    return root / "logs" / "seconds.tsv"


def read_times(root: Path) -> dict[str, float]:
    """Seconds that a stage of each kind took in earlier runs here."""
    try:
        rows = [line.split("\t") for line in _times_path(root).read_text(encoding="utf-8").splitlines()]
        return {kind: float(seconds) for kind, seconds in rows}
    except (OSError, ValueError):  # there is none, or it is damaged: it only foretells
        return {}


def _write_times(root: Path, times: Mapping[str, float]) -> None:
    with replace_file(_times_path(root)) as partial:
        partial.write_text("".join(f"{kind}\t{seconds:.2f}\n" for kind, seconds in sorted(times.items())))


def run_stages(root: Path, targets: Sequence[str], slots: int | None, gpus: Sequence[str] | None) -> int:
    """Run what `dvc repro` would run; returns the exit status.

    Other branches go on where a stage fails. All stages need `check`, so that it runs first.

    Args:
        targets: names of stages; all of dvc.yaml if there are none.
        slots: stages at once on the CPU; None: as many as physical cores allow.
        gpus: ids of the GPUs to use; None: all.

    Raises:
        SpecError: a wrong target, or another command is at work here.
    """
    root, compute = root.resolve(), load_compute(root)
    found = list_gpus(compute)
    if unknown := [gpu for gpu in gpus or () if gpu not in found]:
        raise SpecError(f"--gpus: no GPU {unknown[0]!r}; there are {', '.join(found) or 'none'}")
    pool = Slots(root, compute, slots or count_slots(compute), found if gpus is None else gpus)
    stop, display, start = _Stop(), _Display(), time.monotonic()
    with open_session(root, targets) as session, stop.listening():
        needs = session.list_needs()
        board = _Board(needs, dict.fromkeys(needs, "waiting"), read_times(root))
        try:
            _Driver(session, pool, board, display).work(stop)
        finally:
            pool.close()
    times = read_times(root) | {kind: sum(seen) / len(seen) for kind, seen in board.seconds.items()}
    _write_times(root, times)
    counts = {state: len(board.list(state)) for state in ("made", "restored", "kept", "failed", "blocked")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count or state == "made")
    display.say(f"{told}; {_format(time.monotonic() - start)} with {pool.count} slots")
    for problem in board.problems:
        print(problem, file=sys.stderr)
    if stop.count:
        return 130
    return 1 if board.problems else 0


def print_dry_run(root: Path, targets: Sequence[str], slots: int | None) -> None:
    """Print what would run and why, what would come from the cache, and about how long that takes."""
    project = load_project(root)
    written = foresee_check(root, project)
    stages, times = foresee_stages(root.resolve(), targets, written), read_times(root)
    seconds = 0.0
    for stage in stages:
        if stage.status == "kept":
            continue
        reasons = "; ".join(explain_change(*change) for change in stage.changes)
        if stage.status == "made":
            seconds += times.get(kind_of(stage.name), _UNKNOWN_SECONDS)
            reasons = reasons or "an output is not there, or is not what was recorded; or what it needs runs"
        print(f"{'runs' if stage.status == 'made' else 'from the cache'}: {stage.name}: {reasons}".rstrip(": "))
    counts = {status: sum(stage.status == status for stage in stages) for status in ("made", "restored", "kept")}
    count = slots or count_slots(project.panel.compute)
    print(
        f"{counts['made']} to run, {counts['restored']} from the cache, {counts['kept']} up to date; "
        f"about {_format(seconds / count)} with {count} slots"
    )
