"""Records to figures: an SVG by Vega-Lite, and the same values as a Markdown table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import vl_convert

from pipeline.report.markdown import align_table, escape_cell, format_summary
from pipeline.report.panel import EMBEDDED, Panel, count_runs, list_failed, list_gaps, say_absent, say_no_case
from pipeline.report.statistics import summarise
from pipeline.report.sweeps import Point, name_number
from pipeline.schema.figure import Figure

Chart = dict[str, Any]
"""A Vega-Lite specification."""
VEGA_LITE = "6.4"
PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
"""Colours that the colour-blind tell apart, without the yellow that white swallows: Okabe and Ito (2008)."""
SHAPES = ["circle", "square", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left"]
DEFAULT, NO_VALUE = "PyTorch's default", "no completed run"
SMALL_SCALE = "the embedded default, not the paper's scale"
_CONFIG: Chart = {
    # The converter brings this font along, so that labels are measured alike on every machine.
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "background": "white",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "gridColor": "#e5e5e5"},
    "legend": {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "symbolSize": 80},
    "title": {"fontSize": 15, "subtitleFontSize": 12, "anchor": "start", "offset": 12},
}
_SIZE = {"width": 360, "height": 260}


def gather_rows(figure: Figure, panel: Panel, points: Sequence[Point]) -> tuple[list[Chart], list[Chart]]:
    """Means with their bands, one row an arm, and single seeds, one row a run."""
    means, seeds = [], []
    for point in points:
        values = panel.values(point.arm, figure.y.key)
        if (summary := summarise(values)) is None:
            continue
        place = {"arm": point.arm, "x": point.x, "series": name_number(point.series), "default": point.default}
        spread = summary.std or 0.0
        band = {"mean": summary.mean, "low": summary.mean - spread, "high": summary.mean + spread}
        means.append({**place, **band, "n": summary.n})
        seeds += [{**place, "seed": seed, "value": value} for seed, value in values.items()]
    return means, seeds


def list_drawn(points: Sequence[Point]) -> list[Point]:
    """Those with a place on the logarithmic axis: 0 has none."""
    return [point for point in points if point.x > 0]


def _decades(low: float, high: float) -> tuple[int, int]:
    """The powers of ten around a range, the second excluded."""
    return math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1


def find_ticks(figure: Figure, points: Sequence[Point]) -> list[float]:
    """Of the logarithmic axis: powers of ten, or each value there is."""
    values = sorted({point.x for point in points})
    return values if figure.x.base == 2 else [10.0**power for power in range(*_decades(values[0], values[-1]))]


def list_series(points: Sequence[Point]) -> list[str]:
    """Names of the series, in order; one for a figure without."""
    return list(dict.fromkeys(name_number(point.series) for point in points))


def _horizontal(figure: Figure, points: Sequence[Point]) -> Chart:
    """The logarithmic axis, as an encoding."""
    values = find_ticks(figure, points)
    domain = [values[0], values[-1]] if len(values) > 1 else [values[0] / 2, values[0] * 2]
    label_format = "~g" if figure.x.base == 2 else "~e"
    axis = {"values": values, "format": label_format, "grid": figure.x.base == 10, "labelFlush": False}
    scale = {"type": "log", "base": figure.x.base, "domain": domain, "nice": False, "padding": 14}
    return {"field": "x", "type": "quantitative", "title": figure.x.label, "scale": scale, "axis": axis}


def _vertical(figure: Figure, field: str) -> Chart:
    return {"field": field, "type": "quantitative", "title": figure.y.label, "scale": {"zero": False, "padding": 8}}


def _by_series(figure: Figure, points: Sequence[Point], choices: Sequence[str]) -> Chart:
    """Colour or shape by series, as an encoding."""
    series = list_series(points)
    chosen = [choices[index % len(choices)] for index in range(len(series))]
    legend = {"title": figure.series, "symbolOpacity": 1} if figure.series is not None else None
    return {"field": "series", "type": "nominal", "scale": {"domain": series, "range": chosen}, "legend": legend}


def _layers(figure: Figure, points: Sequence[Point]) -> list[Chart]:
    """Band, seeds, line and means; PyTorch's default stands apart from the line, on a dashed rule."""
    base = {"x": _horizontal(figure, points), "color": _by_series(figure, points, PALETTE)}
    marked = base | {"shape": _by_series(figure, points, SHAPES)}
    mean, low, single = (_vertical(figure, field) for field in ("mean", "low", "value"))
    line = [{"filter": "!datum.default"}]
    layers: list[Chart] = [
        {
            "transform": line,
            "mark": {"type": "area", "opacity": 0.18},
            "encoding": {**base, "y": low, "y2": {"field": "high"}},
        },
        {
            "data": {"name": "seeds"},
            "mark": {"type": "point", "filled": True, "size": 14, "opacity": 0.6},
            "encoding": {**marked, "y": single},
        },
        {"transform": line, "mark": {"type": "line", "strokeWidth": 2}, "encoding": {**base, "y": mean}},
        {
            "transform": line,
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {**marked, "y": mean},
        },
    ]
    return [*layers, *_mark_default(base["x"], mean, low)] if any(point.default for point in points) else layers


def _mark_default(x: Chart, mean: Chart, low: Chart) -> list[Chart]:
    """A dashed rule at PyTorch's default, with the mean and its spread."""
    rule, black = [{"filter": "datum.default"}], {"x": x, "color": {"value": "#000000"}}
    bar = {"type": "errorbar", "ticks": True}
    text = {"type": "text", "align": "left", "baseline": "bottom", "dx": 5, "y": "height", "dy": -4, "fontSize": 12}
    return [
        {"transform": rule, "mark": {"type": "rule", "strokeDash": [5, 4], "opacity": 0.6}, "encoding": black},
        {"transform": rule, "mark": bar, "encoding": {**black, "y": low, "y2": {"field": "high"}}},
        {
            "transform": rule,
            "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 110, "opacity": 1},
            "encoding": {**black, "y": mean},
        },
        {"transform": rule, "mark": text, "encoding": {**black, "text": {"value": DEFAULT}}},
    ]


def draw_panel(figure: Figure, panel: Panel, points: Sequence[Point]) -> Chart:
    """One case's part of the picture."""
    points = list_drawn(points)
    means, seeds = gather_rows(figure, panel, points)
    embedded = panel.scale == "embedded"
    title = {"text": panel.title, "subtitle": SMALL_SCALE if embedded else " "}
    layers = _layers(figure, points) if means else []
    for layer in layers:
        layer["data"] = {"values": seeds if "data" in layer else means}
    nothing = {"data": {"values": [{}]}, "mark": {"type": "text", "text": NO_VALUE, "fontSize": 12}}
    return {"title": title, **_SIZE, "layer": layers or [nothing]}


def draw_figure(figure: Figure, panels: Sequence[Panel], points: Mapping[str, Sequence[Point]]) -> Chart:
    """The figure as a Vega-Lite specification, two cases in a row: on a page of 1000 pixels it is not made smaller.

    Args:
        points: the arms of each case's sweep.
    """
    charts = [draw_panel(figure, panel, points[panel.case]) for panel in panels]
    return {
        "concat": charts,
        "columns": 2,
        "spacing": 40,
        "resolve": {"scale": {"color": "independent", "shape": "independent"}},
    }


def render_svg(chart: Chart) -> str:
    """A chart as SVG: the same bytes for the same chart, and nothing in it that is fetched from elsewhere."""
    return vl_convert.vegalite_to_svg(chart, vl_version=VEGA_LITE, config=_CONFIG)


def bundle_library() -> str:
    """Vega, Vega-Lite and vega-embed in one script, whose short names stay its own."""
    bundle = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;", vl_version=VEGA_LITE
    )
    assert "</script" not in bundle
    assert "<!--" not in bundle
    return f'(() => {{\n"use strict";\n{bundle}\n}})();'


def _table(figure: Figure, panel: Panel, points: Sequence[Point]) -> str:
    header = ["Arm", *([figure.series] if figure.series else []), figure.x.label, "n", figure.y.label]
    rows = []
    for point in points:
        summary = summarise(panel.values(point.arm, figure.y.key))
        value = say_absent(panel, point.arm) if summary is None else format_summary(summary, figure.y.digits)
        x = f"{point.x:.4g}{' (default)' if point.default else ''}{'' if point.x > 0 else ' (not drawn)'}"
        series = [name_number(point.series)] if figure.series else []
        rows.append([f"`{point.arm}`", *series, x, count_runs(panel, point.arm), value])
    return align_table(header, rows, left=1)


def render_figure(figure: Figure, name: str, panels: Sequence[Panel], points: Mapping[str, Sequence[Point]]) -> str:
    """The figure as Markdown: the picture, and below it the same values.

    Args:
        name: of the SVG and the PDF beside the page.
        points: the arms of each case's sweep.
    """
    title = escape_cell(figure.title)
    parts = [f"## {title}", "", figure.caption, "", f"![{title}](<{name}.svg>)", ""]
    parts += [f"For a paper, of a column's width: [{name}.pdf]({name}.pdf)."]
    for panel in panels:
        swept = points[panel.case]
        arms = [point.arm for point in swept]
        parts += ["", f"### {escape_cell(panel.title)}", ""]
        notes = [EMBEDDED] if panel.scale == "embedded" else []
        notes += map(escape_cell, [*list_failed(panel, arms), *list_gaps(panel, arms)])
        if len({point.x for point in swept}) < 2:
            notes.append(f"params.yaml asks for no sweep of `{figure.x.field}` here")
        parts += [_table(figure, panel, swept)] if swept else []
        parts += ["", *(f"- {note}." for note in notes)] if notes else []
    if not panels:
        parts += ["", say_no_case(figure.study)]
    parts += [
        "",
        "Line and band: mean ± standard deviation over n seeds (n − 1 in the denominator); dots: single seeds.",
    ]
    return "\n".join(parts) + "\n"
