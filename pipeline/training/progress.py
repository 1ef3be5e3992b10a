"""Progress bars with rate and time left."""

import sys
from typing import Any

from tqdm import tqdm


def show_progress(total: int, title: str, unit: str, done: int = 0) -> "tqdm[Any]":
    """A bar on stderr; where that is no terminal, a line every ten seconds at most."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        unit=unit,
        dynamic_ncols=terminal,
        ascii=not terminal,
        mininterval=0.2 if terminal else 10,
    )
