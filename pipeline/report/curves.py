"""Charts of curves over training: a small one an arm, a line a seed, the baseline behind it in grey."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.report.figures import PALETTE
from pipeline.report.panel import Panel
from pipeline.schema.base import BASELINE
from pipeline.schema.curve import Curve, Point, curve_path, read_curve

Chart = dict[str, Any]
"""A Vega-Lite specification."""
_MOST = 50
"""Points of a run that the page draws; curves/ has them all."""
_CELL = {"width": 150, "height": 84}
_COLUMNS = 4


def thin(points: Sequence[Point], most: int = _MOST) -> list[Point]:
    """At most so many of a run's points, evenly chosen, the last one among them."""
    every = -(-len(points) // most)
    return [point for index, point in enumerate(reversed(points)) if index % every == 0][::-1]


def find_points(root: Path, study: str, panel: Panel, curve: Curve) -> list[Point]:
    """The points of the runs that params.yaml asks for, in its order, thinned."""
    order = {run: index for index, run in enumerate((arm, seed) for arm in panel.arms for seed in panel.seeds)}

    def place(point: Point) -> int:
        return order[point.arm, point.seed]

    points = read_curve(curve_path(root, study, panel.dataset, curve), curve)
    wanted = sorted((point for point in points if (point.arm, point.seed) in order), key=place)
    return [point for _, run in groupby(wanted, place) for point in thin(list(run))]


def _pack(points: Iterable[Point]) -> Chart:
    """Data of a chart, in a third of the bytes that JSON takes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seed", "at", "value"])
    writer.writerows([point.arm, point.seed, point.at, f"{point.value:.5g}"] for point in points)
    parse = {"arm": "string", "seed": "string", "at": "number", "value": "number"}
    return {"values": text.getvalue(), "format": {"type": "csv", "parse": parse}}


def _layers(points: Sequence[Point], curve: Curve) -> Iterator[Chart]:
    """The baseline, which each cell has, and the cell's own arm."""
    place = {
        "x": {"field": "at", "type": "quantitative", "title": curve.over, "axis": {"tickCount": 4, "format": "~s"}},
        "y": {"field": "value", "type": "quantitative", "title": None, "scale": {"zero": False}},
        "detail": {"field": "seed"},
    }
    behind = [point for point in points if point.arm == BASELINE]
    if behind:
        yield {"data": _pack(behind), "mark": {"type": "line", "color": "#8c8c8c", "strokeWidth": 1}, "encoding": place}
    shown = [
        {"field": "arm", "title": "arm"},
        {"field": "seed", "title": "seed"},
        {"field": "at", "title": curve.over},
        {"field": "value", "title": curve.title},
    ]
    mark = {"type": "line", "color": PALETTE[0], "strokeWidth": 1.5, "point": {"size": 12, "color": PALETTE[0]}}
    yield {"mark": mark, "encoding": {**place, "tooltip": shown}}


def draw_curves(points: Sequence[Point], curve: Curve) -> Chart | None:
    """A curve of every run; None without a point."""
    if not points:
        return None
    header = {"title": None, "labelLimit": _CELL["width"], "labelAnchor": "start", "labelPadding": 2}
    return {
        "data": _pack(points),
        "facet": {"field": "arm", "type": "nominal", "sort": None, "header": header},
        "columns": _COLUMNS,
        "spacing": {"row": 12, "column": 16},
        "spec": {**_CELL, "layer": list(_layers(points, curve))},
    }
