"""Records to tables as cells."""

from collections.abc import Callable, Mapping, Sequence

from pipeline.report.grid import Block, Cell, Grid, GridRow, Heading
from pipeline.report.markdown import format_summary
from pipeline.report.panel import (
    EMBEDDED,
    Panel,
    count_runs,
    list_failed,
    list_outdated,
    say_no_case,
    say_status,
    select_panels,
)
from pipeline.report.statistics import Summary, summarise, summarise_difference
from pipeline.report.views import find_views
from pipeline.schema.arm import BASELINE
from pipeline.schema.table import Column, Row, Table, reference_arm

_NOTHING = Cell("—")


def _paper_values(table: Table, case: str) -> Mapping[str, Mapping[str, float]]:
    """The paper's values on a case: arm to column to value; empty where it has none."""
    return table.paper.values.get(case, {}) if table.paper is not None else {}


def _paper_columns(table: Table, case: str) -> list[Column]:
    arms = _paper_values(table, case).values()
    return [column for column in table.columns if any(column.key in values for values in arms)]


def _paper_cells(table: Table, case: str, arm: str) -> list[Cell]:
    values, cells = _paper_values(table, case), []
    for column in _paper_columns(table, case):
        value = values.get(arm, {}).get(column.key)
        reference = values.get(reference_arm(table), {}).get(column.key)
        cells.append(_NOTHING if value is None else Cell(f"{value:.{column.digits}f}", printed=value))
        if column.difference:
            if value is None or reference is None or arm == reference_arm(table):
                cells.append(_NOTHING)
            else:
                difference = round(value - reference, column.digits)
                cells.append(Cell(f"{difference:+.{column.digits}f}", printed=difference))
    return cells


def _headings(table: Table, case: str) -> list[Heading]:
    headings = []
    for column in table.columns:
        headings.append(Heading(column.label, column.key))
        if column.difference:
            headings.append(Heading("Diff", f"{column.key}.diff"))
    for column in _paper_columns(table, case):
        headings.append(Heading(f"paper: {column.label}", f"paper.{column.key}", of_paper=True))
        if column.difference:
            headings.append(Heading("paper: Diff", f"paper.{column.key}.diff", of_paper=True))
    return headings


def _row(table: Table, panel: Panel, row: Row) -> GridRow:
    status = say_status(panel, row.arm)
    cells = []
    for column in table.columns:
        cells.append(_value(panel, row.arm, column))
        if column.difference:
            cells.append(_difference(table, panel, row.arm, column))
    if not panel.completed(row.arm):
        cells[0] = Cell(status)
    cells += _paper_cells(table, panel.case, row.arm)
    return GridRow(row.label, row.arm, count_runs(panel, row.arm), status, cells)


def _value(panel: Panel, arm: str, column: Column) -> Cell:
    return _format_counted(summarise(panel.values(arm, column.key)), column, panel, arm)


def _difference(table: Table, panel: Panel, arm: str, column: Column) -> Cell:
    if arm == reference_arm(table):
        return _NOTHING
    reference = panel.values(reference_arm(table), column.key)
    summary = summarise_difference(panel.values(arm, column.key), reference)
    return _format_counted(summary, column, panel, arm, sign="+")


def _format_counted(summary: Summary | None, column: Column, panel: Panel, arm: str, sign: str = "-") -> Cell:
    """A summary, with its n where that is not the row's: a value is null, or the reference lacks a seed."""
    text = format_summary(summary, column.digits, sign)
    if summary is not None and summary.n != len(panel.completed(arm)):
        text = f"{text} (n = {summary.n})"
    return Cell(text, summary)


def _rows(table: Table, panel: Panel) -> list[Row]:
    if table.rows != "all":
        return list(table.rows)
    arms = sorted(panel.arms, key=lambda arm: arm != BASELINE)
    return [Row(arm=arm, label="Baseline" if arm == BASELINE else arm.replace(",", ", ")) for arm in arms]


def _fill_columns(table: Table, panel: Panel, rows: Sequence[Row]) -> list[Column]:
    """The columns that have a value; all of them where no run has completed."""
    completed = any(panel.completed(row.arm) for row in rows)

    def has_value(column: Column) -> bool:
        return any(panel.values(row.arm, column.key) for row in rows)

    return [column for column in table.columns if has_value(column) or not completed]


def _notes(panel: Panel, arms: Sequence[str]) -> list[str]:
    records = [record for arm in arms for _, record in sorted(panel.completed(arm).items())]
    embedded = panel.scale == "embedded"
    notes = [EMBEDDED] if embedded else []
    return [*notes, *find_views(panel.study).describe(records, embedded)] if records else notes


def _say_no_difference(table: Table, panel: Panel) -> list[str]:
    """Why the columns of differences are empty, where there is nothing to refer to."""
    reference = reference_arm(table)
    if reference in panel.arms or not any(column.difference for column in table.columns):
        return []
    return [f"Diff: none, `{reference}` is not in params.yaml"]


def _block(table: Table, panel: Panel, describe: Callable[[str], list[str]]) -> Block:
    rows = _rows(table, panel)
    shown = table.model_copy(update={"columns": _fill_columns(table, panel, rows)})
    arms = [row.arm for row in rows]
    return Block(
        case=panel.case,
        title=panel.title,
        scale=panel.scale,
        headings=_headings(shown, panel.case),
        rows=[_row(shown, panel, row) for row in rows],
        incidents=[*_say_no_difference(shown, panel), *list_failed(panel, arms), *list_outdated(panel, arms)],
        notes=[*_notes(panel, arms), *describe(panel.case)],
    )


def lay_out(table: Table, panels: Sequence[Panel], describe: Callable[[str], list[str]]) -> Grid:
    """A table's cells, one block a case that it shows, each with its protocol.

    Args:
        panels: of all cases on which its study runs.
        describe: case to lines about the network and the budgets of its runs.
    """
    panels = select_panels(panels, table.cases)
    remarks = [] if panels else [say_no_case(table.study, table.cases), ""]
    spread = "Values: mean ± standard deviation over n seeds (n − 1 in the denominator)"
    if any(column.difference for column in table.columns):
        spread += "; Diff: to the first row, paired by seed"
    remarks.append(spread + ".")
    if table.paper is not None and any(panel.case in table.paper.values for panel in panels):
        n = "an unstated number of seeds" if table.paper.n is None else f"{table.paper.n} seeds"
        remarks.append(f"Paper: {table.paper.source}; {n}, spread not given.")
    return Grid(table.title, table.caption, [_block(table, panel, describe) for panel in panels], remarks)
