"""What `make` ends with: the answer, a small table, the verdicts counted, and where the page lies; at most 40 lines."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawing
from rich.text import Text

from pipeline.report.claims import Verdict, list_claims, sort_claims
from pipeline.report.panel import list_failed, list_gaps
from pipeline.report.sources import Sources, read_sources
from pipeline.report.tables import lay_out
from pipeline.report.terminal import draw_columns, draw_notes, measure, open_console, split
from pipeline.report.views import render_text
from pipeline.schema.project import load_project

_WIDTH = 100
_GAP = 2
_MOST = 8
"""Claims whose statement is shown."""
_NAMED: tuple[Verdict, ...] = ("fails", "undecided")
_UNNAMED: tuple[Verdict, ...] = ("too few seeds", "not run")
_STYLES: dict[Verdict, str] = {"holds": "green", "fails": "red", "undecided": "yellow"}


def _draw_answer(sources: Sources) -> Iterator[str]:
    """The first text of the front page, a line each, with markup in place of Markdown."""
    project = sources.project
    for name in project.report.front:
        if name in project.report.texts:
            text = render_text(name, project, sources.panels[project.report.texts[name]])
            lines = [line for line in text.splitlines()[1:] if line]
            yield from (re.sub(r"\*\*(.+?)\*\*", r"[bold]\1[/]", escape(line)) for line in lines)
            return


def _draw_table(sources: Sources, width: int) -> Iterator[Drawing | Text]:
    """The table that specs/report.yaml names, with those of its columns that fit; of several cases one."""
    project, wanted = sources.project, sources.project.report.terminal
    if wanted is None:
        return
    table = project.tables[wanted.table]
    columns = [column for column in table.columns if column.key in wanted.columns]
    small = table.model_copy(update={"columns": columns, "paper": None})
    grid = lay_out(small, sources.panels[table.study], lambda case: [])
    for block in sorted(grid.blocks, key=lambda block: block.scale != "paper")[:1]:
        scale = " (not the paper's scale)" if block.scale == "embedded" else ""
        title = escape(f"{table.title} - {block.title}{scale}")
        names, counts = ["Setting", *(escape(row.label) for row in block.rows)], ["n", *(row.n for row in block.rows)]
        room = width - measure(names, _GAP) - measure(counts, _GAP)
        shown = [names, counts, *split(draw_columns(block), room, _GAP)[0]]
        drawing = Drawing(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
        drawing.pad_edge, drawing.padding = False, (0, 1, 0, 0)
        for index, (head, *_) in enumerate(shown):
            drawing.add_column(head, justify="right" if index else "left", no_wrap=True)
        for cells in zip(*(column[1:] for column in shown), strict=True):
            drawing.add_row(*cells)
        yield drawing
    yield from draw_notes(grid)


def _draw_verdicts(sources: Sources) -> Iterator[str]:
    """How many claims have which verdict; those that fail or are undecided with their statement."""
    found = sort_claims(list_claims(sources.project), sources.verdicts)
    counts = ", ".join(
        f"[{_STYLES.get(verdict, 'dim')}]{verdict} {len(claims)}[/]" for verdict, claims in found.items() if claims
    )
    yield f"[bold]Claims[/]: {counts or 'none was judged'}"
    named = [(verdict, claim) for verdict in _NAMED for claim in found[verdict]]
    for verdict, claim in named[:_MOST]:
        yield f"  [{_STYLES[verdict]}]{verdict:9}[/] {claim.id:4} {escape(claim.statement)}"
    if more := [claim.id for _, claim in named[_MOST:]]:
        yield f"  and {', '.join(more)}"
    if rest := "; ".join(
        f"{verdict}: {', '.join(claim.id for claim in found[verdict])}" for verdict in _UNNAMED if found[verdict]
    ):
        yield f"  [dim]{rest}[/]"


def _draw_gaps(sources: Sources) -> Iterator[str]:
    """How many runs failed, and how many arms lack runs."""
    panels = [panel for found in sources.panels.values() for panel in found]
    counts = Counter({
        "failed runs": sum(len(list_failed(panel, panel.arms)) for panel in panels),
        "arms with missing or outdated runs": sum(len(list_gaps(panel, panel.arms)) for panel in panels),
    })  # fmt: skip
    if told := ", ".join(f"{count} {what}" for what, count in counts.items() if count):
        yield f"[red]{told}; `make show` names them[/]"


def print_summary(root: Path, console: Console | None = None) -> None:
    """Print the answer, a small table, the verdicts, and where the page lies."""
    console = console or open_console(_WIDTH)
    sources = read_sources(root, load_project(root))
    for line in _draw_answer(sources):
        console.print(line, highlight=False)
    console.print()
    for drawing in _draw_table(sources, console.width):
        console.print(drawing)
    console.print()
    for line in (*_draw_verdicts(sources), *_draw_gaps(sources)):
        console.print(line, highlight=False, no_wrap=True, overflow="ellipsis")
    console.print()
    console.print("[bold]The page[/]: reports/index.html opens from disk; reports/README.md is the same on GitHub")
    console.print(
        "All tables: `make show`; comparisons: reports/claims.md; changes: `python -m pipeline compare HEAD`",
        highlight=False,
    )
