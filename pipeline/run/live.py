"""A training's history as it grows, for editors and `dvc plots`."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.schema.curve import show_live
from pipeline.schema.study import Run

_SECONDS = 2.0
"""Between two looks; a training of seconds shows its end."""


class LiveCurves:
    """Puts a run's history into curves/, every few seconds at most. No result comes from there, so it never fails."""

    def __init__(self, root: Path, run: Run) -> None:
        self.root, self.run = root, (run.study, run.case, run.arm, run.seed)
        self.shown = time.monotonic()
        self.broken = False

    def __call__(self, history: Sequence[Mapping[str, float | int | None]]) -> None:
        """Show the rows so far."""
        if self.broken or time.monotonic() - self.shown < _SECONDS:
            return
        try:
            show_live(self.root, *self.run, history)
        except (OSError, ValueError) as error:
            print(f"the training goes on, but is not shown in curves/: {error}", file=sys.stderr)
            self.broken = True
        self.shown = time.monotonic()
