"""The tables in a terminal, from whatever records there are."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawing
from rich.text import Text

from pipeline.report.grid import Block, Cell, Grid, Heading
from pipeline.report.panel import Panel, list_gaps, read_panels
from pipeline.report.statistics import Summary, find_interval
from pipeline.report.tables import lay_out
from pipeline.schema.base import SpecError
from pipeline.schema.project import load_project

_WIDTH = 160
"""Characters, where stdout is no terminal."""
_STYLES = {True: "green", False: "red", None: "yellow"}


def open_console(width: int = _WIDTH) -> Console:
    """Where to print: as wide as the terminal or COLUMNS says; elsewhere of a width."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else width)


def agrees(summary: Summary, printed: float) -> bool | None:
    """Whether the 95 % interval of our mean has the paper's value in it; None where one seed gives no interval."""
    if (interval := find_interval(summary)) is None:
        return None
    return interval[0] <= printed <= interval[1]


def _draw_cell(heading: Heading, cell: Cell, ours: dict[str, Summary]) -> str:
    """A cell with markup; beside a value of the paper, what ours differs by, coloured by `agrees`."""
    text = escape(cell.text)
    summary = ours.get(heading.key.removeprefix("paper."))
    if not heading.of_paper or cell.printed is None or summary is None:
        return text
    style = _STYLES[agrees(summary, cell.printed)]
    return f"{text} [{style}]({summary.mean - cell.printed:+.2f})[/]"


def draw_columns(block: Block) -> list[list[str]]:
    """The cells of each column of values, from its head downwards, with markup."""
    columns: list[list[str]] = [[escape(heading.text)] for heading in block.headings]
    for row in block.rows:
        pairs = list(zip(block.headings, row.cells, strict=True))
        ours = {heading.key: cell.summary for heading, cell in pairs if cell.summary is not None}
        for column, (heading, cell) in zip(columns, pairs, strict=True):
            column.append(_draw_cell(heading, cell, ours))
    return columns


def measure(column: Sequence[str], gap: int = 3) -> int:
    """Characters that a column takes: its widest cell, and what is beside it; in a table with lines that is 3."""
    return gap + max(cell_len(Text.from_markup(cell).plain) for cell in column)


def split(columns: Sequence[list[str]], width: int, gap: int = 3) -> list[list[list[str]]]:
    """Groups of columns that fit side by side; a column that is too wide is alone."""
    groups, left = [list[list[str]]()], width
    for column in columns:
        if groups[-1] and measure(column, gap) > left:
            groups.append([])
            left = width
        groups[-1].append(column)
        left -= measure(column, gap)
    return groups


def draw_block(title: str, block: Block, width: int) -> Iterator[Drawing | Text]:
    """One case's part of a table: as many drawings as it takes so that no name and no number is cut.

    Names that leave no room for a column are numbered, and listed below.

    Args:
        width: characters of a line.
    """
    names, columns = [escape(row.label) for row in block.rows], draw_columns(block)
    left = ["Setting", *names], ["n", *(row.n for row in block.rows)]
    room = width - 1 - sum(map(measure, left))
    numbered = room < max(map(measure, columns), default=0)
    if numbered:
        left = ["#", *(str(index + 1) for index in range(len(names)))], left[1]
        room = width - 1 - sum(map(measure, left))
    for index, group in enumerate(split(columns, room)):
        more = ", continued" if index else ""
        drawing = Drawing(title=escape(f"{title} - {block.title}{more}"), title_justify="left", title_style="bold")
        for (head, *_), side in ((left[0], "left"), *((column, "right") for column in (left[1], *group))):
            drawing.add_column(head, justify=side, no_wrap=True)  # type: ignore[arg-type]
        for cells in zip(*(column[1:] for column in (*left, *group)), strict=True):
            drawing.add_row(*cells)
        yield drawing
    for index, name in enumerate(names if numbered else ()):
        yield Text.from_markup(f"  {index + 1:>3} {name}")


def draw_notes(grid: Grid) -> list[Text]:
    """What a table says of itself: its caption, and what its values are."""
    return [Text(line, style="dim") for line in (grid.caption, *grid.remarks) if line]


def _list_absent(panels: Sequence[Panel]) -> list[str]:
    return [f"{panel.study} {panel.case}: {line}" for panel in panels for line in list_gaps(panel, panel.arms)]


def print_tables(root: Path, names: Sequence[str], console: Console | None = None) -> None:
    """Print tables, all of them if none is named, then what is missing.

    Raises:
        SpecError: there is no such table.
    """
    project = load_project(root)
    console = console or open_console()
    panels = {study: read_panels(root, project, study) for study in project.specs}
    for name in names or project.tables:
        if name not in project.tables:
            raise SpecError(f"no table {name!r}; there are {', '.join(project.tables)}")
        table = project.tables[name]
        grid = lay_out(table, panels[table.study], lambda case: [])
        for block in grid.blocks:
            for part in draw_block(grid.title, block, console.width):
                console.print(part, soft_wrap=isinstance(part, Text))
            for line in block.incidents:
                console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
            if block.scale == "embedded":
                console.print("  the embedded default: not the paper's scale", style="yellow")
            console.print()
        for note in draw_notes(grid):
            console.print(note)
        console.print()
    absent = _list_absent([panel for found in panels.values() for panel in found])
    for line in absent or ["nothing is missing: every run that params.yaml asks for has a record of its settings"]:
        console.print(escape(line), style="yellow" if absent else "green", highlight=False, soft_wrap=True)
    if absent:
        console.print("`dvc repro` makes what is missing or outdated")
