"""A table as cells, from which Markdown, LaTeX, CSV and the terminal's tables are written."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.statistics import Summary


@dataclass(frozen=True)
class Heading:
    """The head of a column of values."""

    text: str
    key: str
    """Its name in CSV: `accuracy`, `accuracy.diff`, `paper.accuracy`. Dots keep it apart from every record's key."""
    of_paper: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the numbers behind it, if there are any."""

    text: str
    summary: Summary | None = None
    """Of our runs."""
    printed: float | None = None
    """By the paper."""


@dataclass(frozen=True)
class GridRow:
    """One arm."""

    label: str
    arm: str
    n: str
    status: str
    """`completed`, `outdated`, or why there is no value."""
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Block:
    """One case's part of a table."""

    case: str
    title: str
    scale: str
    """`embedded`, `paper` or `exact`."""
    headings: Sequence[Heading]
    rows: Sequence[GridRow]
    incidents: Sequence[str]
    """Why there are no differences, and a line for each failed or outdated run: text, in which anything may stand."""
    notes: Sequence[str]
    """Lines about the protocol: Markdown."""


@dataclass(frozen=True)
class Grid:
    """A whole table."""

    title: str
    caption: str
    """Markdown."""
    blocks: Sequence[Block]
    remarks: Sequence[str]
    """Lines below all blocks: Markdown."""
