"""The history of a running training: live/STUDY/CASE/ARM/SEED.tsv, for editors, `tail -f` and `dvc plots`."""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.run.outputs import write_history
from pipeline.schema.study import Run

FOLDER = "live"
_SECONDS = 2.0
"""Seconds between two updates."""


class LiveHistory:
    """Callback that writes a run's history so far, every few seconds at most.

    A write error is printed and stops the updates, not the training: no result depends on this file.
    """

    def __init__(self, root: Path, run: Run) -> None:
        self.path = root / FOLDER / f"{run.name}.tsv"
        self.shown = time.monotonic()
        self.broken = False

    def __call__(self, history: Sequence[Mapping[str, float | int | None]]) -> None:
        """Write the rows so far, if an update is due."""
        if self.broken or time.monotonic() - self.shown < _SECONDS:
            return
        try:
            write_history(self.path, list(history[0]), history)
        except OSError as error:
            print(f"the training goes on, but is not shown in {self.path}: {error}", file=sys.stderr)
            self.broken = True
        self.shown = time.monotonic()

    def close(self) -> None:
        """Take the history away: the run's outputs have it now."""
        with suppress(OSError):
            self.path.unlink()
