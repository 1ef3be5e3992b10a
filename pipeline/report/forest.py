"""Figures of kind `arms`: a row an arm, with single seeds, mean and 95 % interval; a forest plot."""

import json
from collections.abc import Sequence

from pipeline.report.markdown import align_table, escape_cell
from pipeline.report.panel import Panel, count_runs, say_absent
from pipeline.report.scales import DROPPED, fit_rows, mark_line, scale_quantity
from pipeline.report.statistics import find_interval, summarise
from pipeline.report.vega import PALETTE, Chart
from pipeline.schema.figure import Arms

NOTE = (
    "Large dots and bars: mean and 95 % interval over seeds (Student's t), of one seed no interval; small dots: seeds"
)
_ROW = 22
"""Height of a row in pixels."""


def list_places(figure: Arms) -> list[tuple[str, str | None]]:
    """Label and arm of each line from top to bottom; a heading has no arm."""
    places: list[tuple[str, str | None]] = []
    for row in figure.rows:
        places += [(row.group, None)] if row.group is not None else []
        places.append((row.label, row.arm))
    return places


def gather_arms(figure: Arms, panel: Panel) -> tuple[list[Chart], list[Chart], list[Chart]]:
    """Means with their intervals, one row an arm; single seeds; and what stands in place of an arm without a value."""
    means, seeds, absent = [], [], []
    for place, (label, arm) in enumerate(list_places(figure)):
        if arm is None:
            continue
        about = {"place": place, "arm": arm, "label": label}
        values = panel.values(arm, figure.x.key)
        if (summary := summarise(values)) is None:
            absent.append({**about, "says": say_value(panel, arm)})
            continue
        low, high = find_interval(summary) or (None, None)
        means.append({**about, "mean": summary.mean, "low": low, "high": high, "n": summary.n})
        seeds += [{**about, "seed": seed, "value": value} for seed, value in values.items()]
    drawn, dots = fit_rows(figure, means, seeds)
    kept = {row["place"] for row in drawn}
    absent += [{**row, "says": DROPPED} for row in means if row["place"] not in kept]
    return drawn, dots, absent


def say_value(panel: Panel, arm: str) -> str:
    """What stands in place of a value."""
    return "no value" if panel.completed(arm) else say_absent(panel, arm)


def _rows_axis(places: Sequence[tuple[str, str | None]]) -> Chart:
    """The vertical axis, as an encoding: labels by place, since two rows may have the same."""
    names, headings = ([label for label, _ in places], [index for index, (_, arm) in enumerate(places) if arm is None])
    bold = {"condition": {"test": f"indexof({headings}, datum.value) >= 0", "value": "bold"}, "value": "normal"}
    axis = {
        "labelExpr": f"{json.dumps(names)}[datum.value]",
        "labelLimit": 300,
        "labelFontWeight": bold,
        "domain": False,
        "ticks": False,
    }
    scale = {"type": "point", "domain": list(range(len(places))), "padding": 0.5}
    return {"field": "place", "type": "ordinal", "title": None, "scale": scale, "axis": axis}


def _draw_intervals(means: Sequence[Chart], encoding: Chart) -> list[Chart]:
    """The intervals of the means that have one, as layers; an end that is cut off has no tick."""
    layers: list[Chart] = []
    for cut in (False, True):
        barred = {"data": {"values": [row for row in means if row["low"] is not None and row["cut"] == cut]}}
        if barred["data"]["values"]:
            bars: Chart = {"type": "errorbar", "ticks": not cut}
            layers.append({**barred, "mark": bars, "encoding": {**encoding, "x2": {"field": "high"}}})
            if cut:
                end = {**encoding, "x": {**encoding["x"], "field": "high"}}
                layers.append({**barred, "mark": "tick", "encoding": end})
    return layers


def draw_forest(figure: Arms, panel: Panel) -> Chart:
    """One case's part of the picture, without a title."""
    means, seeds, absent = gather_arms(figure, panel)
    places = list_places(figure)
    rows, color = {"y": _rows_axis(places)}, {"color": {"value": PALETTE[0]}}
    single, mean, low = (scale_quantity(figure, field, means, seeds) for field in ("value", "mean", "low"))
    layers: list[Chart] = [
        {
            "data": {"values": absent},
            "mark": {"type": "text", "align": "left", "fontSize": 12},
            "encoding": {**rows, "x": {"value": 6}, "text": {"field": "says"}, "color": {"value": "#767676"}},
        }
    ]
    if means:
        layers += [
            {
                "data": {"values": seeds},
                "mark": {"type": "point", "filled": True, "size": 14, "opacity": 0.6},
                "encoding": {**rows, "x": single, **color},
            },
            *_draw_intervals(means, {**rows, "x": low, **color}),
            {
                "data": {"values": means},
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {**rows, "x": mean, **color},
            },
            *mark_line(figure, mean, "x"),
        ]
    return {"width": 360, "height": _ROW * len(places), "layer": layers}


def tabulate_arms(figure: Arms, panel: Panel) -> str:
    """The same values as a Markdown table."""
    grouped = any(row.group is not None for row in figure.rows)
    header = ["Arm", *(["Group"] if grouped else []), "Setting", "n", f"{figure.x.label}, 95 % interval"]
    rows, group = list[list[str]](), ""
    for row in figure.rows:
        group = row.group or group
        summary = summarise(panel.values(row.arm, figure.x.key))
        value = say_value(panel, row.arm)
        if summary is not None:
            digits, interval = figure.x.digits, find_interval(summary)
            value = f"{summary.mean:.{digits}f}"
            value += "" if interval is None else f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
            value += " (not drawn)" if figure.x.scale == "log" and summary.mean <= 0 else ""
        names = [escape_cell(name) for name in ([group] if grouped else []) + [row.label]]
        rows.append([f"`{row.arm}`", *names, count_runs(panel, row.arm), value])
    return align_table(header, rows, left=3 if grouped else 2)
