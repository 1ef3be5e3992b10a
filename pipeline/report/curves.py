"""Charts of curves over training: the baseline's, and of each other arm what it differs by, seed by seed."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from pipeline.report.charts import draw_lines, make_drawings
from pipeline.report.panel import Panel
from pipeline.report.vega import PALETTE
from pipeline.report.views import Chart, Drawing
from pipeline.schema.arm import BASELINE
from pipeline.schema.curve import Point, curve_path, read_curve
from pipeline.schema.project import Project
from pipeline.schema.study import Curve, find_study

_MOST = 50
"""Points of a run that the page draws; curves/ has them all."""
_CELL = {"width": 208, "height": 88}
_COLUMNS = 3


def thin(points: Sequence[Point], most: int = _MOST) -> list[Point]:
    """At most so many of a run's points, evenly chosen, the last one among them."""
    every = -(-len(points) // most)
    return [point for index, point in enumerate(reversed(points)) if index % every == 0][::-1]


def read_points(root: Path, panel: Panel, curve: Curve) -> list[Point]:
    """The points of the runs that params.yaml asks for, in its order."""
    runs = [(str(arm), seed) for arm in panel.arms for seed in panel.seeds[arm]]
    order = {run: index for index, run in enumerate(runs)}

    def place(point: Point) -> int:
        return order[point.arm, point.seed]

    points = read_curve(curve_path(root, panel.study, panel.case, curve), curve)
    return sorted((point for point in points if (point.arm, point.seed) in order), key=place)


def subtract_baseline(points: Sequence[Point]) -> list[Point]:
    """What each run of the other arms differs by from the baseline's of the same seed, where both have a point."""
    known = {(point.seed, point.at): point.value for point in points if point.arm == BASELINE}
    return [
        replace(point, value=point.value - known[point.seed, point.at])
        for point in points
        if point.arm != BASELINE and (point.seed, point.at) in known
    ]


def _thin_runs(points: Sequence[Point]) -> list[Point]:
    """The points of all runs, each thinned."""
    return [point for _, run in groupby(points, lambda point: (point.arm, point.seed)) for point in thin(list(run))]


def _pack(points: Iterable[Point]) -> Chart:
    """Data of a chart, one row a run, which Vega unfolds: a row a point would take four times the bytes."""
    rows = []
    for (arm, seed), found in groupby(points, lambda point: (point.arm, point.seed)):
        run = list(found)
        values = [float(f"{point.value:.5g}") for point in run]
        rows.append({"arm": arm, "seed": seed, "at": [point.at for point in run], "value": values})
    return {"data": {"values": rows}, "transform": [{"flatten": ["at", "value"]}]}


def _layers(curve: Curve, hover: bool) -> list[Chart]:
    """The line of no difference, and the arm's own."""
    place = {
        "x": {"field": "at", "type": "quantitative", "title": curve.over, "axis": {"tickCount": 4, "format": "~s"}},
        "y": {"field": "value", "type": "quantitative", "title": None, "axis": {"tickCount": 4}},
        "detail": {"field": "seed"},
    }
    shown = {"arm": "arm", "seed": "seed", "at": curve.over, "value": f"{curve.title}, less the baseline's"}
    mark: Chart = {"type": "line", "color": PALETTE[0], "strokeWidth": 1.5}
    own: Chart = {"mark": mark, "encoding": place}
    if hover:
        mark["point"] = {"size": 12, "color": PALETTE[0]}
        own["encoding"] = {**place, "tooltip": [{"field": field, "title": title} for field, title in shown.items()]}
    return [{"mark": {"type": "rule", "color": "#8c8c8c", "aria": False}, "encoding": {"y": {"datum": 0}}}, own]


def draw_curves(points: Sequence[Point], curve: Curve, hover: bool = True) -> Chart | None:
    """A small chart an arm, a line a seed; None without a point.

    Args:
        points: differences from the baseline.
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
        "spec": {**_CELL, "layer": _layers(curve, hover)},
    }


def list_curves(root: Path, project: Project, panel: Panel, names: Collection[str]) -> list[Drawing]:
    """The drawings of a panel's curves of these names: the baseline's, and the differences from it."""
    drawings: list[Drawing] = []
    for curve in find_study(panel.study).curves:
        if curve.name in names:
            points = read_points(root, panel, curve)
            name = f"{curve.name}-{panel.study}-{panel.case}"
            title = f"{curve.title[0].upper()}{curve.title[1:]}: {project.specs[panel.study].title}, {panel.title}"
            baseline = _thin_runs([point for point in points if point.arm == BASELINE])
            drawings += make_drawings(name, f"{title}, baseline", draw_lines(baseline, curve.over, curve.title))
            others = _thin_runs(subtract_baseline(points))
            chart, still = draw_curves(others, curve), draw_curves(others, curve, hover=False)
            drawings += make_drawings(
                f"{name}-differences", f"{title}, less the baseline's of the same seed", chart, still
            )
    return drawings
