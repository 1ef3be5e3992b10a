"""Records to figures: an SVG by Vega-Lite, and the same values as a Markdown table. Sweeps are drawn here."""

from collections.abc import Sequence

from pipeline.report.forest import NOTE, draw_forest, say_value, tabulate_arms
from pipeline.report.markdown import align_table, escape_cell, format_summary
from pipeline.report.panel import EMBEDDED, Panel, count_runs, list_failed, list_gaps, say_no_case, select_panels
from pipeline.report.scales import find_powers, fit_rows, mark_line, scale_quantity
from pipeline.report.statistics import summarise
from pipeline.report.sweeps import Point, find_points, name_value
from pipeline.report.vega import PALETTE, SHAPES, Chart
from pipeline.schema.figure import Figure, Sweep

DEFAULT, NO_VALUE = "PyTorch's default", "no completed run"
SMALL_SCALE = "the embedded default, not the paper's scale"
_SIZE = {"width": 360, "height": 260}
_LEAST = 3
"""Seeds from which on a mean has a bar: it would hide fewer."""


def gather_rows(figure: Sweep, panel: Panel, points: Sequence[Point]) -> tuple[list[Chart], list[Chart]]:
    """Means with their bars, one row an arm, and single seeds, one row a run. Two seeds are their own spread."""
    means, seeds = [], []
    for point in points:
        values = panel.values(point.arm, figure.y.key)
        if (summary := summarise(values)) is None:
            continue
        place = {"arm": point.arm, "x": point.x, "series": name_series(figure, point), "default": point.default}
        spread = summary.std if summary.n >= _LEAST else None
        ends = (None, None) if spread is None else (summary.mean - spread, summary.mean + spread)
        means.append({**place, "mean": summary.mean, "low": ends[0], "high": ends[1], "n": summary.n})
        seeds += [{**place, "seed": seed, "value": value} for seed, value in values.items()]
    return fit_rows(figure, means, seeds)


def has_place(figure: Sweep, point: Point) -> bool:
    """Whether x has a place on the axis: on a logarithmic one 0 has none."""
    return figure.x.base is None or point.x > 0


def find_drawn(figure: Sweep, panel: Panel) -> list[Point]:
    """The arms of a case's sweep that are drawn."""
    points = find_points(panel, figure.x.field, figure.series, figure.fixed)
    return [point for point in points if has_place(figure, point)]


def find_ticks(figure: Sweep, points: Sequence[Point]) -> list[float]:
    """Of the logarithmic axis: powers of ten, or each value there is."""
    values = sorted({point.x for point in points})
    return values if figure.x.base == 2 else [10.0**power for power in find_powers(values[0], values[-1])]


def name_series(figure: Sweep, point: Point) -> str:
    """What the line of an arm is called."""
    value = name_value(point.series)
    return figure.names.get(value, value)


def list_series(figure: Sweep, points: Sequence[Point]) -> list[str]:
    """Names of the series, in order; one for a figure without."""
    return list(dict.fromkeys(name_series(figure, point) for point in points))


def title_series(figure: Sweep) -> str | None:
    """The title of their legend; none if the names say it all."""
    return None if figure.names else figure.series


def _horizontal(figure: Sweep, points: Sequence[Point]) -> Chart:
    """The axis of x, as an encoding."""
    encoding = {"field": "x", "type": "quantitative", "title": figure.x.label}
    if figure.x.base is None:
        linear = {"zero": False, "nice": False, "padding": 14}
        return {**encoding, "scale": linear, "axis": {"format": "~g", "labelFlush": False}}
    values = find_ticks(figure, points)
    domain = [values[0], values[-1]] if len(values) > 1 else [values[0] / 2, values[0] * 2]
    label_format = "~g" if figure.x.base == 2 else "~e"
    axis: Chart = {"values": values, "format": label_format, "grid": figure.x.base == 10, "labelFlush": False}
    scale: Chart = {"type": "log", "base": figure.x.base, "domain": domain, "nice": False, "padding": 14}
    return {**encoding, "scale": scale, "axis": axis}


def _by_series(figure: Sweep, points: Sequence[Point], choices: Sequence[str]) -> Chart:
    """Colour or shape by series, as an encoding."""
    series = list_series(figure, points)
    chosen = [choices[index % len(choices)] for index in range(len(series))]
    legend = {"title": title_series(figure), "symbolOpacity": 1} if len(series) > 1 else None
    return {"field": "series", "type": "nominal", "scale": {"domain": series, "range": chosen}, "legend": legend}


def _layers(figure: Sweep, points: Sequence[Point], means: list[Chart], seeds: list[Chart]) -> list[Chart]:
    """Bars, seeds, line and means; PyTorch's default stands apart from the line, on a dashed rule."""
    base = {"x": _horizontal(figure, points), "color": _by_series(figure, points, PALETTE)}
    marked = base | {"shape": _by_series(figure, points, SHAPES)}
    mean, low, single = (scale_quantity(figure, field, means, seeds) for field in ("mean", "low", "value"))
    small: Chart = {"type": "point", "filled": True, "size": 14, "opacity": 0.6}
    large: Chart = {"type": "point", "filled": True, "size": 70, "opacity": 1}
    line = [row for row in means if not row["default"]]
    layers = [
        *_draw_bars(line, {"opacity": 0.5}, {**base, "y": low}),
        {"data": {"values": seeds}, "mark": small, "encoding": {**marked, "y": single}},
    ]
    if line:
        thick: Chart = {"type": "line", "strokeWidth": 2}
        layers += [
            {"data": {"values": line}, "mark": thick, "encoding": {**base, "y": mean}},
            {"data": {"values": line}, "mark": large, "encoding": {**marked, "y": mean}},
        ]
    if default := [row for row in means if row["default"]]:
        layers += _mark_default(default, base["x"], mean, low)
    return [*layers, *mark_line(figure, mean, "y")]


def _draw_bars(rows: Sequence[Chart], look: Chart, encoding: Chart) -> list[Chart]:
    """The spread of the means that have one, as a layer; none without."""
    barred = [row for row in rows if row["low"] is not None]
    bars = {
        "data": {"values": barred},
        "mark": {"type": "rule", **look},
        "encoding": {**encoding, "y2": {"field": "high"}},
    }
    return [bars] if barred else []


def _mark_default(rows: Sequence[Chart], x: Chart, mean: Chart, low: Chart) -> list[Chart]:
    """A dashed rule at PyTorch's default, with the mean and its spread."""
    data, black = {"data": {"values": rows}}, {"x": x, "color": {"value": "#000000"}}
    diamond: Chart = {"type": "point", "shape": "diamond", "filled": True, "size": 110, "opacity": 1}
    text = {"type": "text", "align": "left", "baseline": "bottom", "dx": 5, "y": "height", "dy": -4, "fontSize": 12}
    return [
        {**data, "mark": {"type": "rule", "strokeDash": [5, 4], "opacity": 0.6}, "encoding": black},
        *_draw_bars(rows, {}, {**black, "y": low}),
        {**data, "mark": diamond, "encoding": {**black, "y": mean}},
        {**data, "mark": text, "encoding": {**black, "text": {"value": DEFAULT}}},
    ]


def _draw_sweep(figure: Sweep, panel: Panel) -> Chart:
    points = find_drawn(figure, panel)
    means, seeds = gather_rows(figure, panel, points)
    nothing = {"data": {"values": [{}]}, "mark": {"type": "text", "text": NO_VALUE, "fontSize": 12}}
    return {**_SIZE, "layer": _layers(figure, points, means, seeds) if means else [nothing]}


def draw_panel(figure: Figure, panel: Panel) -> Chart:
    """One case's part of the picture."""
    title = {"text": panel.title, "subtitle": SMALL_SCALE if panel.scale == "embedded" else " "}
    return {"title": title, **(_draw_sweep(figure, panel) if isinstance(figure, Sweep) else draw_forest(figure, panel))}


def draw_figure(figure: Figure, panels: Sequence[Panel]) -> Chart:
    """The figure as a Vega-Lite specification, two cases in a row: on a page of 1000 pixels it is not made smaller.

    Args:
        panels: of all cases on which its study runs.
    """
    return {
        "concat": [draw_panel(figure, panel) for panel in select_panels(panels, figure.cases)],
        "columns": 2,
        "spacing": 40,
        "resolve": {"scale": {"color": "independent", "shape": "independent"}},
    }


def _tabulate_sweep(figure: Sweep, panel: Panel, points: Sequence[Point]) -> str:
    header = ["Arm", *([figure.series] if figure.series else []), figure.x.label, "n", figure.y.label]
    rows = []
    for point in points:
        summary = summarise(panel.values(point.arm, figure.y.key))
        value = say_value(panel, point.arm) if summary is None else format_summary(summary, figure.y.digits)
        value += " (not drawn)" if summary is not None and figure.y.scale == "log" and summary.mean <= 0 else ""
        place = "" if has_place(figure, point) else " (not drawn)"
        x = f"{point.x:.4g}{' (default)' if point.default else ''}{place}"
        series = [escape_cell(name_value(point.series))] if figure.series else []
        rows.append([f"`{point.arm}`", *series, x, count_runs(panel, point.arm), value])
    return align_table(header, rows, left=1)


def _render_panel(figure: Figure, panel: Panel) -> list[str]:
    """The values of a case as lines of Markdown, and what is missing."""
    notes = [EMBEDDED] if panel.scale == "embedded" else []
    if isinstance(figure, Sweep):
        points = find_points(panel, figure.x.field, figure.series, figure.fixed)
        arms: list[str] = [point.arm for point in points]
        tables = [_tabulate_sweep(figure, panel, points)] if points else []
        lacks = len({point.x for point in points}) < 2
        last = [f"params.yaml asks for no sweep of `{figure.x.field}` here"] if lacks else []
    else:
        arms, tables, last = figure.arms, [tabulate_arms(figure, panel)], []
    notes += [*map(escape_cell, [*list_failed(panel, arms), *list_gaps(panel, arms)]), *last]
    return [
        "",
        f"### {escape_cell(panel.title)}",
        "",
        *tables,
        *(["", *(f"- {note}." for note in notes)] if notes else []),
    ]


def explain_marks(figure: Figure, over: str) -> str:
    """What lines, bars and dots are, as a sentence.

    Args:
        over: what means and spreads are over.
    """
    bars = f"Lines and bars: mean ± standard deviation over {over}, from {_LEAST} on; dots: single seeds"
    marks = bars if isinstance(figure, Sweep) else NOTE
    clipped = "; on the logarithmic axis a bar ends at a tenth of the smallest mean"
    return marks + (clipped if figure.quantity.scale == "log" else "") + "."


def render_figure(figure: Figure, name: str, panels: Sequence[Panel]) -> str:
    """The figure as Markdown: the picture, and below it the same values.

    Args:
        name: of the SVG and the PDF beside the page.
        panels: of all cases on which its study runs.
    """
    title = escape_cell(figure.title)
    parts = [f"## {title}", "", figure.caption, "", f"![{title}](<{name}.svg>)", ""]
    parts += [f"For a paper, of a column's width: [{name}.pdf]({name}.pdf)."]
    shown = select_panels(panels, figure.cases)
    for panel in shown:
        parts += _render_panel(figure, panel)
    if not shown:
        parts += ["", say_no_case(figure.study, figure.cases)]
    return "\n".join([*parts, "", explain_marks(figure, "n seeds (n − 1 in the denominator)")]) + "\n"
