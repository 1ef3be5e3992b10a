"""The plan as text and as JSON."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.forecast import Forecast, Priced, make_forecast
from pipeline.plan.rows import Row, Stage

_TERA = 1e12
_HEADER = ("stage", "dataset", "arm", "seeds to run", "restored", "kept", "TFLOP each", "time each", "time")
_NOUNS: dict[Stage, str] = {"train_node": "NODE training", "train_ddpm": "DDPM training", "sample": "sampling"}


def format_seconds(seconds: float) -> str:
    """In seconds, minutes, hours or days, with two or three digits."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if seconds >= 100 * length else 1}f} {unit}"
    return f"{seconds:.0f} s"


def format_flops(flops: float) -> str:
    """In TFLOP, with three digits."""
    tera = flops / _TERA
    return f"{tera:,.0f}" if tera >= 100 else f"{tera:.3g}"


def _align(table: Sequence[Sequence[str]], left: int) -> list[str]:
    """Columns under each other, the first `left` of them flush left."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _describe(row: Row, priced: Priced | None) -> list[str]:
    """One line of the table."""
    seeds = ",".join(map(str, row.seeds("made"))) or "-"
    cells = [row.stage, row.run.dataset, row.run.arm, seeds]
    cells += [str(len(row.seeds(fate))) for fate in ("restored", "kept")]
    if priced is None:
        return [*cells, "", "", ""]
    if priced.cost is None:
        return [*cells, "fails", "", ""]
    mark = "~" if priced.cost.scaled else ""
    times = [format_seconds(priced.seconds), format_seconds(priced.seconds * priced.count)]
    return [*cells, format_flops(priced.flops), *(mark + time for time in times)]


def _total(priced: Sequence[Priced]) -> str:
    counts = {stage: sum(one.count for one in priced if one.row.stage == stage) for stage in _NOUNS}
    what = ", ".join(f"{count} {_NOUNS[stage]}{'s' * (count > 1)}" for stage, count in counts.items() if count)
    flops, seconds = sum(one.flops * one.count for one in priced), sum(one.seconds * one.count for one in priced)
    return f"{what}: {format_flops(flops)} TFLOP, {format_seconds(seconds)}"


def write_text(forecast: Forecast) -> str:
    """A line for every stage, dataset and arm with something to run or restore; totals; what they leave out."""
    models = [row for row in forecast.rows if row.stage != "sample"]
    restored, kept = (sum(len(row.seeds(fate)) for row in models) for fate in ("restored", "kept"))
    rest = f"{kept} models up to date, {restored} to be restored from DVC's cache."
    if not forecast.priced:
        return f"Nothing to train: {rest}\n"
    by_row = {id(one.row): one for one in forecast.priced}
    shown = [row for row in forecast.rows if len(row.seeds("kept")) < len(row.fates)]
    lines = _align([_HEADER, *(_describe(row, by_row.get(id(row))) for row in shown)], left=4)
    lines.append("")
    for study, dataset in dict.fromkeys((one.row.run.study, one.row.run.dataset) for one in forecast.priced):
        part = [one for one in forecast.priced if (one.row.run.study, one.row.run.dataset) == (study, dataset)]
        lines.append(f"{study} {dataset}: {_total(part)}")
    threads = f", {forecast.threads} thread{'s' if forecast.threads > 1 else ''}" if forecast.device == "cpu" else ""
    lines.append(f"all, on this device ({forecast.device}{threads}): {_total(forecast.priced)}")
    return "\n".join([*lines, "", rest, *forecast.notes]) + "\n"


def write_json(forecast: Forecast) -> str:
    """The same for machines: FLOPs and seconds of one seed, and of all that are to run."""
    by_row = {id(one.row): one for one in forecast.priced}

    def describe(row: Row) -> dict[str, Any]:
        priced = by_row.get(id(row))
        content: dict[str, Any] = {"stage": row.stage, "dataset": row.run.dataset, "arm": row.run.arm}
        content["seeds"] = {fate: row.seeds(fate) for fate in ("made", "restored", "kept")}
        if priced is not None:
            content |= {"flops_each": priced.flops, "seconds_each": priced.seconds}
            content |= {"scaled": bool(priced.cost and priced.cost.scaled), "failure": priced.failure}
        return content

    content = {
        "device": forecast.device,
        "threads": forecast.threads,
        "rows": [describe(row) for row in forecast.rows],
        "evaluations": forecast.evaluations,
        "flops": sum(one.flops * one.count for one in forecast.priced),
        "seconds": sum(one.seconds * one.count for one in forecast.priced),
        "notes": forecast.notes,
    }
    return json.dumps(content, indent=2) + "\n"


def print_plan(root: Path, as_json: bool) -> None:
    """Print the plan; on a terminal, say on stderr what is being measured."""
    terminal = sys.stderr.isatty()

    def show(text: str) -> None:
        if terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    forecast = make_forecast(root, lambda row: show(f"measuring {row.stage} {row.run.dataset} {row.run.arm}"))
    show("")
    print(write_json(forecast) if as_json else write_text(forecast), end="")
