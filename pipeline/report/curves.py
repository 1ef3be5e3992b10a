"""Charts of curves over training: a small one an arm, a line a seed, the baseline behind it in grey."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from pipeline.report.charts import make_drawings
from pipeline.report.panel import Panel
from pipeline.report.vega import PALETTE
from pipeline.report.views import Chart, Drawing
from pipeline.schema.arm import BASELINE
from pipeline.schema.curve import Point, curve_path, read_curve
from pipeline.schema.project import Project
from pipeline.schema.study import Curve, find_study

_MOST = 50
"""Points of a run that the page draws; curves/ has them all."""
_CELL = {"width": 196, "height": 88}
_COLUMNS = 4


def thin(points: Sequence[Point], most: int = _MOST) -> list[Point]:
    """At most so many of a run's points, evenly chosen, the last one among them."""
    every = -(-len(points) // most)
    return [point for index, point in enumerate(reversed(points)) if index % every == 0][::-1]


def read_points(root: Path, panel: Panel, curve: Curve) -> list[Point]:
    """The points of the runs that params.yaml asks for, in its order, thinned."""
    runs = [(str(arm), seed) for arm in panel.arms for seed in panel.seeds[arm]]
    order = {run: index for index, run in enumerate(runs)}

    def place(point: Point) -> int:
        return order[point.arm, point.seed]

    points = read_curve(curve_path(root, panel.study, panel.case, curve), curve)
    wanted = sorted((point for point in points if (point.arm, point.seed) in order), key=place)
    return [point for _, run in groupby(wanted, place) for point in thin(list(run))]


def _pack(points: Iterable[Point]) -> Chart:
    """Data of a chart, one row a run, which Vega unfolds: a row a point would take four times the bytes."""
    rows = []
    for (arm, seed), found in groupby(points, lambda point: (point.arm, point.seed)):
        run = list(found)
        values = [float(f"{point.value:.5g}") for point in run]
        rows.append({"arm": arm, "seed": seed, "at": [point.at for point in run], "value": values})
    return {"data": {"values": rows}, "transform": [{"flatten": ["at", "value"]}]}


def _layers(points: Sequence[Point], curve: Curve, hover: bool) -> Iterator[Chart]:
    """The baseline, which each cell has, and the cell's own arm."""
    place = {
        "x": {"field": "at", "type": "quantitative", "title": curve.over, "axis": {"tickCount": 4, "format": "~s"}},
        "y": {"field": "value", "type": "quantitative", "title": None, "scale": {"zero": False}},
        "detail": {"field": "seed"},
    }
    behind = [point for point in points if point.arm == BASELINE]
    if behind:
        grey = {"type": "line", "color": "#8c8c8c", "strokeWidth": 1}
        yield {**_pack(behind), "mark": grey, "encoding": place}
    shown = [
        {"field": "arm", "title": "arm"},
        {"field": "seed", "title": "seed"},
        {"field": "at", "title": curve.over},
        {"field": "value", "title": curve.title},
    ]
    mark = {"type": "line", "color": PALETTE[0], "strokeWidth": 1.5}
    if hover:
        yield {"mark": mark | {"point": {"size": 12, "color": PALETTE[0]}}, "encoding": {**place, "tooltip": shown}}
    else:
        yield {"mark": mark, "encoding": place}


def draw_curves(points: Sequence[Point], curve: Curve, hover: bool = True) -> Chart | None:
    """A curve of every run; None without a point.

    Args:
        hover: with points to point at, which a picture can do without.
    """
    if not points:
        return None
    arms = list(dict.fromkeys(point.arm for point in points))
    header = {"title": None, "labelLimit": _CELL["width"], "labelAnchor": "start", "labelPadding": 2}
    return {
        **_pack(points),
        "facet": {"field": "arm", "type": "nominal", "sort": arms, "header": header},
        "columns": _COLUMNS,
        "spacing": {"row": 12, "column": 16},
        "spec": {**_CELL, "layer": list(_layers(points, curve, hover))},
    }


def list_curves(root: Path, project: Project, panel: Panel, names: Collection[str]) -> list[Drawing]:
    """The drawings of a panel's curves of these names."""
    drawings: list[Drawing] = []
    for curve in find_study(panel.study).curves:
        if curve.name in names:
            points = read_points(root, panel, curve)
            chart, still = draw_curves(points, curve), draw_curves(points, curve, hover=False)
            title = f"{curve.title[0].upper()}{curve.title[1:]}: {project.specs[panel.study].title}, {panel.title}"
            drawings += make_drawings(f"{curve.name}-{panel.study}-{panel.case}", title, chart, still)
    return drawings
