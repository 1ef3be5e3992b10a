"""The plan as text and as JSON."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.plan.forecast import Forecast, Priced, make_forecast
from pipeline.plan.rows import Row
from pipeline.schema.study import Step

_TERA = 1e12
_SUSTAINED = (40, 10)  # TFLOP/s of a GPU: a fast one and a slow one, our guess; `make bench-gpu` measures yours
_LARGE = 1e17  # FLOP, of which such a GPU has its hour: below, the line would say nothing
_HEADER = ("step", "study", "case", "arm", "seeds to run", "restored", "kept", "TFLOP each", "time each", "time")
_NOUNS: dict[Step, str] = {
    "train": "training",
    "sample": "sampling",
    "evaluate": "evaluation",
    "measure": "measurement",
}


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


def _describe(rows: Sequence[Row], priced: Priced | None) -> list[str]:
    """One line of the table: a row with its price, or all rows of a step and case that are not priced."""
    run, made = rows[0].run, [seed for row in rows for seed in row.seeds("made")]
    arm = run.arm if len(rows) == 1 else f"{len(rows)} arms"
    seeds = (",".join(map(str, made)) if len(rows) == 1 else f"{len(made)} runs") if made else "-"
    cells = [rows[0].step, run.study, run.case, arm, seeds]
    cells += [str(sum(len(row.seeds(status)) for row in rows)) for status in ("restored", "kept")]
    if priced is None:
        return [*cells, "not priced" if made else "", "", ""]
    if priced.cost is None:
        return [*cells, "fails", "", ""]
    mark = "~" if priced.cost.scaled else ""
    times = [format_seconds(priced.seconds), format_seconds(priced.seconds * priced.count)]
    return [*cells, format_flops(priced.flops), *(mark + time for time in times)]


def _list_lines(forecast: Forecast) -> Iterator[list[str]]:
    """The lines of the table, of rows with something to run or to restore."""
    by_row = {id(one.row): one for one in forecast.priced}
    shown = [row for row in forecast.rows if len(row.seeds("kept")) < len(row.statuses)]
    for group in dict.fromkeys(row.group for row in shown):
        rows = [row for row in shown if row.group == group]
        if any(id(row) in by_row for row in rows):
            yield from (_describe([row], by_row.get(id(row))) for row in rows)
        else:
            yield _describe(rows, None)


def _total(priced: Sequence[Priced]) -> str:
    counts = {step: sum(one.count for one in priced if one.row.step == step) for step in _NOUNS}
    what = ", ".join(f"{count} {_NOUNS[step]}{'s' * (count > 1)}" for step, count in counts.items() if count)
    flops, seconds = sum(one.flops * one.count for one in priced), sum(one.seconds * one.count for one in priced)
    return f"{what}: {format_flops(flops)} TFLOP, {format_seconds(seconds)}"


def _foretell_gpu(priced: Sequence[Priced]) -> list[str]:
    """A line with the days of a GPU, where there is work for one."""
    flops = sum(one.flops * one.count for one in priced)
    times = " and ".join(f"{format_seconds(flops / _TERA / rate)} at {rate} TFLOP/s" for rate in _SUSTAINED)
    return [f"all, on one GPU: {times} sustained"] if flops > _LARGE else []


def write_text(forecast: Forecast) -> str:
    """A line for every step, study, case and arm with something to run or restore; totals; what they leave out."""
    firsts = {row.run.study: row.step for row in reversed(forecast.rows)}  # the first step of each study
    models = [row for row in forecast.rows if row.step == firsts[row.run.study]]
    restored, kept = (sum(len(row.seeds(status)) for row in models) for status in ("restored", "kept"))
    rest = f"{kept} runs up to date, {restored} to be restored from DVC's cache."
    if not any(row.seeds("made") for row in forecast.rows):
        return f"Nothing to compute: {rest}\n"
    lines = _align([_HEADER, *_list_lines(forecast)], left=5)
    lines.append("")
    for study, case in dict.fromkeys((one.row.run.study, one.row.run.case) for one in forecast.priced):
        part = [one for one in forecast.priced if (one.row.run.study, one.row.run.case) == (study, case)]
        lines.append(f"{study} {case}: {_total(part)}")
    if forecast.priced:
        plural = "s" if forecast.threads > 1 else ""
        threads = f", {forecast.threads} thread{plural}" if forecast.device == "cpu" else ""
        lines += [f"all, on this device ({forecast.device}{threads}): {_total(forecast.priced)}"]
        slots = f"{forecast.slots} slot{'s' * (forecast.slots > 1)}"
        lines.append(
            f"`make`: about {format_seconds(forecast.seconds_run)} with {slots}; "
            f"`dvc repro`: about {format_seconds(forecast.seconds_repro)}"
        )
        lines += [*_foretell_gpu(forecast.priced), ""]
    return "\n".join([*lines, rest, *forecast.notes]) + "\n"


def write_json(forecast: Forecast) -> str:
    """The same for machines: FLOPs and seconds of one seed, and of all that are to run; null: not priced."""
    by_row = {id(one.row): one for one in forecast.priced}

    def describe(row: Row) -> dict[str, Any]:
        priced, run = by_row.get(id(row)), row.run
        content: dict[str, Any] = {"step": row.step, "study": run.study, "case": run.case, "arm": str(run.arm)}
        content["seeds"] = {status: row.seeds(status) for status in ("made", "restored", "kept")}
        if row.seeds("made"):
            content |= {"flops_each": priced and priced.flops, "seconds_each": priced and priced.seconds}
        if priced is not None:
            content |= {"scaled": bool(priced.cost and priced.cost.scaled), "failure": priced.failure}
        return content

    content = {
        "device": forecast.device,
        "threads": forecast.threads,
        "rows": [describe(row) for row in forecast.rows],
        "flops": forecast.flops,
        "seconds": forecast.seconds,
        "seconds_run": forecast.seconds_run,
        "seconds_repro": forecast.seconds_repro,
        "notes": forecast.notes,
    }
    return json.dumps(content, indent=2) + "\n"


def print_plan(root: Path, as_json: bool) -> None:
    """Print the plan; on a terminal, say on stderr what is being measured."""
    terminal = sys.stderr.isatty()

    def show(text: str) -> None:
        if terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    forecast = make_forecast(root, lambda row: show(f"measuring {row.group} {row.run.arm}"))
    show("")
    print(write_json(forecast) if as_json else write_text(forecast), end="")
