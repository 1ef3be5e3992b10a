"""Charts of the web page: Vega-Lite specifications with tooltips, and legends that hide a series."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy

from pipeline.report.figures import draw_panel
from pipeline.report.panel import Panel
from pipeline.report.vega import PALETTE, render_svg
from pipeline.report.views import Chart, Drawing
from pipeline.schema.curve import Point as CurvePoint
from pipeline.schema.figure import Figure, Sweep
from pipeline.schema.record import Record

BEFORE, AFTER = "before training", "after training"
_STATIC_WIDTH = 680
"""Pixels of a chart that fills its place where there is a script."""
_WIDE = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
_TICKS = [0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10]
USE = "time_use"
"""Key of the records that say how much of the time a trained network uses."""
_MOST_COLOURS = 10
"""That the eye tells apart: with more arms, only the tooltip names them."""
_ROW = 22
"""Pixels of an arm's row."""


def render_static(chart: Chart) -> str:
    """A chart of the page as SVG, for where there is no script, and for print."""
    fixed = {key: value for key, value in chart.items() if key != "autosize"}
    if fixed.get("width") == "container":
        fixed["width"] = _STATIC_WIDTH
    return render_svg({**fixed, "config": {"aria": False}})  # the picture's text says it


def make_drawings(name: str, title: str, chart: Chart | None, still: Chart | None = None) -> list[Drawing]:
    """The drawing of a chart; none where there is nothing to draw.

    Args:
        still: what stands for the chart where there is no script, if it is not the chart itself.
    """
    return [] if chart is None else [Drawing(f"chart-{name}", title, chart, render_static(still or chart))]


def _tooltip(*fields: tuple[str, str]) -> list[Chart]:
    return [{"field": field, "title": title} for field, title in fields]


def hide_series(series: Iterable[str]) -> list[Chart]:
    """A click on a legend's entry takes its series away, and the next one brings it back: all are shown at first."""
    select = {"type": "point", "fields": ["series"], "toggle": "true", "clear": False}
    shown = [{"series": name} for name in dict.fromkeys(series)]
    return [{"name": "shown", "select": select, "bind": "legend", "value": shown}]


def fade_hidden(opacity: float) -> Chart:
    """An opacity, and none for a series that was clicked away."""
    return {"condition": {"param": "shown", "empty": False, "value": opacity}, "value": 0}


def draw_case(figure: Figure, panel: Panel) -> Chart:
    """A figure on one case."""
    chart = {**deepcopy(draw_panel(figure, panel)), **_WIDE}
    del chart["title"]  # the page has it
    is_sweep = isinstance(figure, Sweep)
    for layer in chart["layer"]:
        rows = layer["data"]["values"]
        if not rows or "arm" not in rows[0]:
            continue  # the figure's own line, or what stands in place of all
        own = [("value", figure.quantity.label), ("seed", "seed")] if "seed" in rows[0] else []
        if "mean" in rows[0]:
            own = [
                ("mean", figure.quantity.label),
                *([] if is_sweep else [("from", "from"), ("high", "to")]),
                ("n", "n"),
            ]
        x = [("x", figure.x.label)] if is_sweep else []
        layer["encoding"]["tooltip"] = _tooltip(("arm", "arm"), *own, *x)
    lines = [layer for layer in chart["layer"] if is_sweep and layer["mark"]["type"] == "line"]
    if lines and lines[0]["encoding"]["color"]["legend"] is not None:
        _offer_series(chart, lines[0])
    return chart


def _offer_series(chart: Chart, line: Chart) -> None:
    """Let the legend of a sweep hide its series."""
    for layer in chart["layer"]:
        if layer["encoding"]["color"].get("field") == "series":
            layer["encoding"]["opacity"] = fade_hidden(layer["mark"].pop("opacity", 1))
    line["params"] = hide_series(line["encoding"]["color"]["scale"]["domain"])


def _changes(panel: Panel) -> Iterator[Chart]:
    """How much a run's network depends on time or level, before and after training; one row a run and moment."""
    keys = {BEFORE: "change_initial", AFTER: "change"}
    for arm in panel.arms:
        for seed in panel.completed(arm):
            for moment, key in keys.items():
                if (value := panel.values(arm, key).get(seed)) is not None:
                    yield {"arm": arm, "seed": seed, "series": moment, "value": value}


def draw_awareness(panel: Panel) -> Chart | None:
    """Relative change of the network when time, or the level, changes: one row an arm; None without a value."""
    rows = list(_changes(panel))
    if not rows:
        return None
    encoding = {
        "y": {"field": "arm", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 300}},
        "x": {
            "field": "value",
            "type": "quantitative",
            "title": "relative change",
            "scale": {"type": "symlog", "constant": 0.01, "domainMin": 0, "nice": False, "padding": 8},
            "axis": {"values": _TICKS, "format": "~g", "labelOverlap": True, "labelSeparation": 6},
        },
        "color": {
            "field": "series",
            "type": "nominal",
            "title": None,
            "scale": {"domain": [BEFORE, AFTER], "range": [PALETTE[4], PALETTE[0]]},
            "legend": {"orient": "top", "direction": "vertical"},
        },
        "shape": {
            "field": "series",
            "type": "nominal",
            "scale": {"domain": [BEFORE, AFTER], "range": ["square", "circle"]},
        },
        "opacity": fade_hidden(0.85),
        "tooltip": _tooltip(("arm", "arm"), ("seed", "seed"), ("series", "moment"), ("value", "relative change")),
    }
    return {
        **_WIDE,
        "height": _ROW * len({row["arm"] for row in rows}),
        "data": {"values": rows},
        "params": hide_series(str(row["series"]) for row in rows),
        "mark": {"type": "point", "filled": True, "size": 70},
        "encoding": encoding,
    }


def draw_use(panel: Panel, score: str) -> Chart | None:
    """How much of the time each trained network uses, against its score: a dot a run; None without a value.

    Args:
        score: key of the record.
    """
    rows: list[Chart] = [
        {"series": arm, "arm": arm, "seed": seed, "use": use, "score": scores[seed]}
        for arm in panel.arms
        for scores in [panel.values(arm, score)]
        for seed, use in panel.values(arm, USE).items()
        if seed in scores
    ]
    if not rows:
        return None
    look: Chart = {"color": {"value": PALETTE[0]}, "opacity": {"value": 0.7}}
    offered = {}
    if len(arms := dict.fromkeys(row["arm"] for row in rows)) <= _MOST_COLOURS:
        legend = {"orient": "bottom", "columns": 1, "labelLimit": 400}
        color = {"field": "series", "type": "nominal", "title": None, "sort": None, "legend": legend}
        look, offered = {"color": color, "opacity": fade_hidden(0.7)}, {"params": hide_series(arms)}
    return {
        **_WIDE,
        "height": 260,
        "data": {"values": rows},
        **offered,
        "mark": {"type": "point", "filled": True, "size": 50},
        "encoding": {
            "x": {"field": "use", "type": "quantitative", "title": "use of the time", "axis": {"format": "~g"}},
            "y": {"field": "score", "type": "quantitative", "title": score, "scale": {"zero": False}},
            **look,
            "tooltip": _tooltip(("arm", "arm"), ("seed", "seed"), ("use", "use of the time"), ("score", score)),
        },
    }


SiteChanges = Callable[[Record], Mapping[str, Sequence[float | None]]]
"""A record to the change at each of its network's sites, by moment."""


def draw_sites(panel: Panel, changes: SiteChanges, names: Mapping[str, Sequence[str]], title: str) -> Chart | None:
    """The same site by site, over seeds averaged by Vega; None without a value.

    Args:
        names: of an arm's sites or blocks, in the order of its records.
        title: of the axis of sites.
    """
    rows: list[Chart] = [
        {"arm": arm, "seed": seed, "site": site, "moment": moment, "value": value}
        for arm in panel.arms
        for seed, record in panel.completed(arm).items()
        for moment, values in changes(record).items()
        for site, value in zip(names[arm], values, strict=True)
        if value is not None
    ]
    if not rows:
        return None
    most, highest = max(len(sites) for sites in names.values()), max(row["value"] for row in rows)
    ticks = [tick for tick in _TICKS if tick <= highest]
    angle = 0 if all(len(site) < 3 for sites in names.values() for site in sites) else -90
    cell = {
        "mark": "rect",
        "width": {"step": max(_ROW, 130 // most)},
        "height": {"step": _ROW},
        "encoding": {
            "x": {"field": "site", "type": "nominal", "title": title, "sort": None, "axis": {"labelAngle": angle}},
            "y": {"field": "arm", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 300}},
            "color": {
                "aggregate": "mean",
                "field": "value",
                "type": "quantitative",
                "title": "relative change",
                "scale": {"scheme": "viridis", "type": "symlog", "constant": 0.01, "domainMin": 0},
                "legend": {
                    "orient": "bottom",
                    "values": ticks,
                    "format": "~g",
                    "gradientLength": 320,
                    "labelOverlap": True,
                },
            },
            "tooltip": [
                *_tooltip(("arm", "arm"), ("site", title), ("moment", "moment")),
                {"aggregate": "mean", "field": "value", "title": "relative change, mean over seeds"},
                {"aggregate": "count", "title": "n"},
            ],
        },
    }
    column = {"field": "moment", "title": None, "sort": [BEFORE, AFTER]}
    return {"data": {"values": rows}, "facet": {"column": column}, "spec": cell}


def draw_lines(points: Sequence[CurvePoint], horizontal: str, vertical: str) -> Chart | None:
    """Values over a step, an epoch or a length in one chart, a line an arm and seed; None without a point.

    Args:
        horizontal: title of the axis.
        vertical: likewise.
    """
    rows = [
        {"series": point.arm, "arm": point.arm, "seed": point.seed, "step": point.at, "value": point.value}
        for point in points
    ]
    if not rows:
        return None
    return {
        **_WIDE,
        "height": 260,
        "data": {"values": rows},
        "params": hide_series(str(row["series"]) for row in rows),
        "mark": {"type": "line", "point": {"size": 60}},
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "title": horizontal},
            "y": {"field": "value", "type": "quantitative", "title": vertical, "scale": {"zero": False}},
            "color": {
                "field": "series",
                "type": "nominal",
                "title": None,
                "sort": None,
                "scale": {"range": PALETTE},
                "legend": {"orient": "bottom", "columns": 1, "labelLimit": 400},
            },
            "detail": {"field": "seed"},
            "opacity": fade_hidden(1),
            "tooltip": _tooltip(("arm", "arm"), ("seed", "seed"), ("step", horizontal), ("value", vertical)),
        },
    }
