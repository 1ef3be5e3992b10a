"""Progress bars with rate and remaining time."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from tqdm import tqdm

Show = Callable[[Sequence[Mapping[str, float | int | None]]], object]
"""Callback that is given the rows of a history so far."""


class _Lines:
    """A stream that prints each state of a bar as a line: log readers such as `docker logs` wait for line ends."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if text := text.strip():
            self.stream.write(f"{text}\n")

    def flush(self) -> None:
        self.stream.flush()


def show_progress(total: int, title: str, unit: str, done: int = 0) -> "tqdm[Any]":
    """A bar on stderr; if that is not a terminal, a line every ten seconds at most.

    Args:
        done: steps that were finished before.
    """
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
