"""Progress bars with rate and time left."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from tqdm import tqdm

Show = Callable[[Sequence[Mapping[str, float | int | None]]], object]
"""Shows the rows of a history so far."""


class _Lines:
    """A stream on which each state of a bar is a line: what reads a log, such as `docker logs`, waits for its end."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if text := text.strip():
            self.stream.write(f"{text}\n")

    def flush(self) -> None:
        self.stream.flush()


def show_progress(total: int, title: str, unit: str, done: int = 0) -> "tqdm[Any]":
    """A bar on stderr; where that is no terminal, a line every ten seconds at most."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        unit=unit,
        file=sys.stderr if terminal else _Lines(sys.stderr),
        dynamic_ncols=terminal,
        ascii=not terminal,
        mininterval=0.2 if terminal else 10,
    )
