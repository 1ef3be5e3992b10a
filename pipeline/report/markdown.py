"""Cells and tables in Markdown that also read well in a terminal."""

import unicodedata
from collections.abc import Sequence

from pipeline.report.grid import Grid
from pipeline.report.statistics import Summary


def escape_cell(text: str) -> str:
    """Text that stays text, and one cell, in Markdown."""
    for character, code in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(character, code)
    return text


def format_summary(summary: Summary | None, digits: int, sign: str = "-") -> str:
    """`mean ± std`, or the value alone where there is but one; `sign` is `+` to show both signs."""
    if summary is None:
        return "—"
    mean = f"{summary.mean:{sign}.{digits}f}"
    return mean if summary.std is None else f"{mean} ± {summary.std:.{digits}f}"


def _measure(text: str) -> int:
    """Columns that a text takes in a terminal: combining marks take none."""
    return sum(not unicodedata.combining(character) for character in text)


def align_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> str:
    """A Markdown table padded so that it reads well in a terminal; the first `left` columns aligned left.

    By hand: tabulate counts a combining mark as a column, and escapes nothing.

    Args:
        header: text.
        rows: cells of Markdown.
    """
    header = [escape_cell(text) for text in header]
    columns = range(len(header))
    widths = [max(3, *(_measure(row[index]) for row in (header, *rows))) for index in columns]

    def line(cells: Sequence[str]) -> str:
        gaps = [" " * (width - _measure(cell)) for cell, width in zip(cells, widths, strict=True)]
        padded = [gaps[index] + cells[index] if index >= left else cells[index] + gaps[index] for index in columns]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * (width - 1) + (":" if index >= left else "-") for index, width in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def render_grid(grid: Grid) -> str:
    """A table in Markdown: one a case, each with its protocol below."""
    parts = [f"## {escape_cell(grid.title)}", "", grid.caption]
    for block in grid.blocks:
        header = ["Setting", "Arm", "n", *(heading.text for heading in block.headings)]
        rows = [
            [escape_cell(row.label), f"`{row.arm}`", row.n, *(cell.text for cell in row.cells)] for row in block.rows
        ]
        parts += ["", f"### {escape_cell(block.title)}", "", align_table(header, rows), ""]
        parts += [f"- {line}." for line in (*map(escape_cell, block.incidents), *block.notes)]
    return "\n".join([*parts, "", *grid.remarks]) + "\n"
