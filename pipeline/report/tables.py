"""Records to Markdown tables."""

from collections.abc import Callable, Mapping, Sequence

from pipeline.report.markdown import align_table, escape_cell, format_summary
from pipeline.report.panel import EMBEDDED, Panel, count_runs, list_failed, say_absent
from pipeline.report.protocol import describe_ddpm, describe_node
from pipeline.report.statistics import Summary, summarise, summarise_difference
from pipeline.schema.base import BASELINE
from pipeline.schema.record import DdpmRecord, NodeRecord
from pipeline.schema.table import Column, Row, Table, reference_arm


def _paper_values(table: Table, dataset: str) -> Mapping[str, Mapping[str, float]]:
    """The paper's values on a dataset: arm to column to value; empty where it has none."""
    return table.paper.values.get(dataset, {}) if table.paper is not None else {}


def _paper_columns(table: Table, dataset: str) -> list[Column]:
    arms = _paper_values(table, dataset).values()
    return [column for column in table.columns if any(column.key in values for values in arms)]


def _paper_cells(table: Table, dataset: str, arm: str) -> list[str]:
    values, cells = _paper_values(table, dataset), []
    for column in _paper_columns(table, dataset):
        value = values.get(arm, {}).get(column.key)
        reference = values.get(reference_arm(table), {}).get(column.key)
        cells.append("—" if value is None else f"{value:.{column.digits}f}")
        if column.difference:
            if value is None or reference is None or arm == reference_arm(table):
                cells.append("—")
            else:
                cells.append(f"{value - reference:+.{column.digits}f}")
    return cells


def _header(table: Table, dataset: str) -> list[str]:
    header = ["Setting", "Arm", "n"]
    for column in table.columns:
        header += [column.label, "Diff"] if column.difference else [column.label]
    for column in _paper_columns(table, dataset):
        header += [f"paper: {column.label}", "paper: Diff"] if column.difference else [f"paper: {column.label}"]
    return header


def _row(table: Table, panel: Panel, row: Row) -> list[str]:
    cells = [escape_cell(row.label), f"`{row.arm}`", count_runs(panel, row.arm)]
    for column in table.columns:
        cells.append(_value(panel, row.arm, column, first=column is table.columns[0]))
        if column.difference:
            cells.append(_difference(table, panel, row.arm, column))
    return cells + _paper_cells(table, panel.dataset, row.arm)


def _value(panel: Panel, arm: str, column: Column, first: bool) -> str:
    if first and not panel.completed(arm):
        return say_absent(panel, arm)
    return _format_counted(summarise(panel.values(arm, column.key)), column, panel, arm)


def _difference(table: Table, panel: Panel, arm: str, column: Column) -> str:
    if arm == reference_arm(table):
        return "—"
    reference = panel.values(reference_arm(table), column.key)
    summary = summarise_difference(panel.values(arm, column.key), reference)
    return _format_counted(summary, column, panel, arm, sign="+")


def _format_counted(summary: Summary | None, column: Column, panel: Panel, arm: str, sign: str = "-") -> str:
    """A summary, with its n where that is not the row's: a value is null, or the reference lacks a seed."""
    text = format_summary(summary, column.digits, sign)
    return text if summary is None or summary.n == len(panel.completed(arm)) else f"{text} (n = {summary.n})"


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


def _notes(panel: Panel, arms: Sequence[str], describe: Callable[[str], list[str]]) -> list[str]:
    records = [record for arm in arms for _, record in sorted(panel.completed(arm).items())]
    node = [record for record in records if isinstance(record, NodeRecord)]
    ddpm = [record for record in records if isinstance(record, DdpmRecord)]
    notes = []
    if panel.scale == "embedded":
        notes.append(EMBEDDED)
    if node:
        notes += describe_node(node)
    if ddpm:
        notes += describe_ddpm(ddpm, panel.scale == "embedded")
    return [*map(escape_cell, list_failed(panel, arms)), *notes, *describe(panel.dataset)]


def render_table(table: Table, panels: Sequence[Panel], describe: Callable[[str], list[str]]) -> str:
    """One Markdown table a dataset, each with its protocol below.

    Args:
        describe: dataset to lines about the network and the budgets of its runs.
    """
    parts = [f"## {table.title}", "", table.caption]
    for panel in panels:
        rows = _rows(table, panel)
        shown = table.model_copy(update={"columns": _fill_columns(table, panel, rows)})
        parts += ["", f"### {panel.title}", ""]
        parts.append(align_table(_header(shown, panel.dataset), [_row(shown, panel, row) for row in rows]))
        parts.append("")
        parts += [f"- {note}." for note in _notes(panel, [row.arm for row in rows], describe)]
    if not panels:
        parts += ["", f"No dataset: `studies.{table.study}` in params.yaml is empty."]
    spread = "Values: mean ± standard deviation over n seeds (n − 1 in the denominator)"
    if any(column.difference for column in table.columns):
        spread += "; Diff: to the first row, paired by seed"
    parts += ["", spread + "."]
    if table.paper is not None and any(panel.dataset in table.paper.values for panel in panels):
        n = "an unstated number of seeds" if table.paper.n is None else f"{table.paper.n} seeds"
        parts.append(f"Paper: {table.paper.source}; {n}, spread not given.")
    return "\n".join(parts) + "\n"
