"""The tables in a terminal, from whatever records there are."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawing

from pipeline.report.grid import Block, Cell, GridRow, Heading
from pipeline.report.panel import Panel, list_gaps, read_panels
from pipeline.report.statistics import Summary, find_interval
from pipeline.report.tables import lay_out
from pipeline.schema.project import load_project

_WIDTH = 160
"""Characters, where stdout is no terminal."""
_STYLES = {True: "green", False: "red", None: "yellow"}


def open_console() -> Console:
    """Where to print: as wide as the terminal, or wide enough for a table."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH)


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


def _draw_row(block: Block, row: GridRow) -> list[str]:
    pairs = list(zip(block.headings, row.cells, strict=True))
    ours = {heading.key: cell.summary for heading, cell in pairs if cell.summary is not None}
    return [escape(row.label), row.n, *(_draw_cell(heading, cell, ours) for heading, cell in pairs)]


def draw_block(title: str, block: Block) -> Drawing:
    """One case's part of a table."""
    drawing = Drawing(title=escape(f"{title} - {block.title}"), title_justify="left", title_style="bold")
    drawing.add_column("Setting", overflow="fold", min_width=12)
    for text in ("n", *(heading.text for heading in block.headings)):
        drawing.add_column(escape(text), justify="right", overflow="fold", no_wrap=True)
    for row in block.rows:
        drawing.add_row(*_draw_row(block, row))
    return drawing


def _list_absent(panels: Sequence[Panel]) -> list[str]:
    return [f"{panel.study} {panel.case}: {line}" for panel in panels for line in list_gaps(panel, panel.arms)]


def print_tables(root: Path, names: Sequence[str], console: Console | None = None) -> None:
    """Print tables, all of them if none is named, then what is missing.

    Raises:
        ValueError: there is no such table.
    """
    project = load_project(root)
    console = console or open_console()
    panels = {study: read_panels(root, project, study) for study in project.specs}
    for name in names or project.tables:
        if name not in project.tables:
            raise ValueError(f"no table {name!r} in specs/; there are {', '.join(project.tables)}")
        table = project.tables[name]
        grid = lay_out(table, panels[table.study], lambda case: [])
        for block in grid.blocks:
            console.print(draw_block(grid.title, block))
            for line in block.incidents:
                console.print(f"  {escape(line)}", highlight=False)
            if block.scale == "embedded":
                console.print("  the embedded default: not the paper's scale", style="yellow")
            console.print()
    absent = _list_absent([panel for found in panels.values() for panel in found])
    for line in absent or ["nothing is missing: every run that params.yaml asks for has a record of its settings"]:
        console.print(escape(line), style="yellow" if absent else "green", highlight=False)
    if absent:
        console.print("`dvc repro` makes what is missing or outdated")
