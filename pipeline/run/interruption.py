"""Saves state regularly, and when the process is asked to end."""

import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType

from pipeline.run.checkpoint import Checkpoint


class StopSignals:
    """Context manager: notes SIGTERM and Ctrl-C in `number`, so that a loop can save its state before it ends."""

    def __init__(self) -> None:
        self.number = 0

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def save_regularly(work: Iterable[object], checkpoint: Checkpoint, save: Callable[[], None]) -> None:
    """Run through the work; after each item, save if a save is due or the process is asked to end.

    Raises:
        SystemExit: the process was asked to end; status 128 + the signal's number, as in a shell.
    """
    with StopSignals() as signals:
        for _ in work:
            if signals.number or checkpoint.is_due():
                save()
            if signals.number:
                sys.exit(128 + signals.number)
