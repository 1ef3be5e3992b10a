"""`python -m pipeline run`: what `dvc repro` does, with stages beside each other, and the same result."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pipeline.plan.board import Board, Display, kind_of, read_times, write_times
from pipeline.plan.dvc.foresee import foresee_stages
from pipeline.plan.dvc.session import Session, StageError, open_session
from pipeline.plan.forecast import foresee_check
from pipeline.plan.pool import Beside, Cluster, Pool, find_log
from pipeline.plan.ray_pool import RayPool
from pipeline.plan.reasons import explain_change
from pipeline.plan.slots import Slots, count_slots, list_gpus
from pipeline.plan.slurm_pool import SlurmPool, end_left_jobs
from pipeline.plan.text import format_seconds
from pipeline.schema.base import SpecError
from pipeline.schema.compute import load_compute
from pipeline.schema.project import load_project

_TICK = 0.05
_FLUSH_SECONDS = 300.0
"""Between two writes of dvc.lock, which take seconds where stages are many. A run that is killed before the next one
loses nothing: DVC's run-cache has what was made."""


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
    """Runs the stages of a session in a pool."""

    def __init__(self, root: Path, session: Session, pool: Pool, board: Board, display: Display) -> None:
        self.root, self.session, self.pool, self.board, self.display = root, session, pool, board, display
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
            if not self._is_ready(name) or not self.pool.has_room(name):
                continue
            try:
                outcome = self.session.prepare(name)
            except StageError as error:
                self._fail(name, str(error))
                continue
            if outcome == "run":
                self.pool.start(name, self.session.find_command(name))
                self.board.started[name] = time.monotonic()
            self.board.states[name] = "running" if outcome == "run" else outcome
            self.display.show(self.board, self.pool.count)

    def collect(self) -> bool:
        """Record what has ended; returns whether anything has."""
        found = self.pool.collect()
        for ended in found:
            seconds = time.monotonic() - self.board.started[ended.name]
            if ended.status:
                how = f"status {ended.status}" if ended.status > 0 else signal.Signals(-ended.status).name
                path = find_log(self.root, ended.name)
                last, log = _read_last_line(path), path.relative_to(self.root)
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
        return bool(found)

    def work(self, stop: _Stop) -> None:
        """Run until nothing is left, or until asked to end: then stages save their states and end."""
        asked, changed = 0, True
        while True:
            changed = self.collect() or changed
            if stop.count > asked:
                asked = stop.count
                self.pool.send(signal.SIGTERM if asked == 1 else signal.SIGKILL)
                self.display.say("ending: stages save their states; once more ends them at once" if asked == 1 else "")
            if changed and not asked:
                self.start_ready()
                changed = False
            if not self.board.list("running"):
                return
            self.display.show(self.board, self.pool.count)
            self.pool.wait(_TICK)


def _read_last_line(path: Path) -> str:
    """The last line of a log, which says why a stage failed."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _open_pool(root: Path, slots: int | None, gpus: Sequence[str] | None, cluster: Cluster | None) -> Pool:
    compute = load_compute(root)
    found = list_gpus(compute)
    if unknown := [gpu for gpu in gpus or () if gpu not in found]:
        raise SpecError(f"--gpus: no GPU {unknown[0]!r}; there are {', '.join(found) or 'none'}")
    here = Slots(root, compute, slots or count_slots(compute), found if gpus is None else gpus)
    if cluster is None:
        return here
    if cluster.ray is not None:
        return Beside(RayPool(root, compute, cluster.ray), here)
    return Beside(SlurmPool(root, compute, cluster.options), here)


def run_stages(
    root: Path,
    targets: Sequence[str],
    slots: int | None,
    gpus: Sequence[str] | None,
    cluster: Cluster | None = None,
) -> int:
    """Run what `dvc repro` would run; returns the exit status.

    Other branches go on where a stage fails. All stages need `check`, so that it runs first.

    Args:
        targets: names of stages; all of dvc.yaml if there are none.
        slots: stages at once on this machine's CPU; None: as many as physical cores allow.
        gpus: ids of this machine's GPUs to use; None: all.
        cluster: runs the heavy stages; None: this machine runs them.

    Raises:
        SpecError: a wrong target, another command is at work here, or the cluster is not there.
    """
    root = root.resolve()
    stop, display, start = _Stop(), Display(), time.monotonic()
    with open_session(root, targets) as session:
        end_left_jobs(root)
        pool = _open_pool(root, slots, gpus, cluster)
        needs = session.list_needs()
        board = Board(needs, dict.fromkeys(needs, "waiting"), read_times(root))
        try:
            with stop.listening():
                _Driver(root, session, pool, board, display).work(stop)
            count = pool.count
        finally:
            pool.close()
    write_times(root, board)
    counts = {state: len(board.list(state)) for state in ("made", "restored", "kept", "failed", "blocked")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count or state == "made")
    display.say(f"{told}; {format_seconds(time.monotonic() - start)} with {count} slots")
    for problem in board.problems:
        print(problem, file=sys.stderr)
    if stop.count:
        return 130
    return 1 if board.problems else 0


def print_dry_run(root: Path, targets: Sequence[str], slots: int | None) -> None:
    """Print what would run and why, what would come from the cache, and about how long that takes."""
    project = load_project(root)
    written = foresee_check(root, project)
    stages = foresee_stages(root.resolve(), targets, written)
    board, seconds = Board({}, {}, read_times(root)), 0.0
    for stage in stages:
        if stage.status == "kept":
            continue
        reasons = "; ".join(explain_change(*change) for change in stage.changes)
        if stage.status == "made":
            seconds += board.estimate(stage.name)
            reasons = reasons or "an output is not there, or is not what was recorded; or what it needs runs"
        print(f"{'runs' if stage.status == 'made' else 'from the cache'}: {stage.name}: {reasons}".rstrip(": "))
    counts = {status: sum(stage.status == status for stage in stages) for status in ("made", "restored", "kept")}
    count = slots or count_slots(project.panel.compute)
    print(
        f"{counts['made']} to run, {counts['restored']} from the cache, {counts['kept']} up to date; "
        f"about {format_seconds(seconds / count)} with {count} slots"
    )
