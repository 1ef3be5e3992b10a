"""The comparisons of a claim as weighted sums of arms.

An effect weighs two arms with 1 and -1, a slope weighs each arm as least squares does. So one rule decides them all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.report.panel import Panel
from pipeline.report.statistics import summarise
from pipeline.report.sweeps import Point
from pipeline.schema.claim import Comparison, Effect, Equal, Extreme, Split, Trend
from pipeline.schema.figure import SeriesField, SweepField

Side = Literal["<", ">", "="]
Sweep = Callable[[SweepField, SeriesField | None], Sequence[Point]]
"""Finds the arms of a dataset that vary a field."""


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms plus an offset, which a claim says is below, above or equal to 0."""

    text: str
    side: Side
    weights: Mapping[str, float] = field(default_factory=dict)
    offset: float = 0.0
    lacks: str = ""
    """The part of a sweep that params.yaml does not ask for, without which there is no comparison."""
    nearest: bool = False
    """Whether an extreme is compared with the nearest of the others, and not with their mean."""


def find_contrasts(part: Comparison, panel: Panel, sweep: Sweep) -> list[list[Contrast]]:
    """The contrasts of a comparison, those of one series together."""
    if isinstance(part, Effect):
        text = f"{part.key}: `{part.arm}` {part.direction} `{part.reference}`"
        return [[Contrast(text, part.direction, {part.arm: 1.0, part.reference: -1.0})]]
    if isinstance(part, Equal):
        return [[_equality(part)]]
    if isinstance(part, Split):
        return [[_split(part, sweep(part.x, None))]]
    points = sweep(part.x, part.series)
    groups = [[point for point in points if point.series == value] for value in _series(points)]
    if not groups:
        text = f"{part.key}: {part.kind} along {part.x}"
        return [[Contrast(text, "=", lacks=f"arms that vary {part.x}")]]
    if isinstance(part, Trend):
        return [[_trend(part, group)] for group in groups]
    return [_extreme(part, panel, group) for group in groups]


def _series(points: Sequence[Point]) -> list[int | None]:
    """The series in which x varies; an arm that stands alone in its series is no sweep."""
    seen = dict.fromkeys(point.series for point in points)
    return [value for value in seen if len({point.x for point in points if point.series == value}) > 1]


def _equality(part: Equal) -> Contrast:
    if part.value is not None:
        text = f"{part.key}: `{part.arm}` = {part.value:.{part.digits}f}"
        return Contrast(text, "=", {part.arm: 1.0}, -part.value)
    assert part.reference is not None
    return Contrast(f"{part.key}: `{part.arm}` = `{part.reference}`", "=", {part.arm: 1.0, part.reference: -1.0})


def _difference(points: Sequence[Point], others: Sequence[Point]) -> dict[str, float]:
    """Weights of the mean over some arms minus the mean over others."""
    weights = {point.arm: 1 / len(points) for point in points}
    return weights | {point.arm: -1 / len(others) for point in others}


def _split(part: Split, points: Sequence[Point]) -> Contrast:
    high = [point for point in points if point.x > part.above]
    low = [point for point in points if point.x <= part.up_to]
    word = "below" if part.direction == "<" else "above"
    text = f"{part.key}: mean over {part.x} above {part.above:g} {word} mean over {part.x} up to {part.up_to:g}"
    if not high or not low:
        side = f"above {part.above:g}" if not high else f"up to {part.up_to:g}"
        return Contrast(text, part.direction, lacks=f"arm with {part.x} {side}")
    return Contrast(text, part.direction, _difference(high, low))


def _name_series(series: SeriesField | None, points: Sequence[Point]) -> str:
    return "" if series is None else f", {series} {points[0].series}"


def _trend(part: Trend, points: Sequence[Point]) -> Contrast:
    logs = [math.log2(point.x) for point in points]
    mean = math.fsum(logs) / len(logs)
    total = math.fsum((value - mean) ** 2 for value in logs)
    weights = {point.arm: (value - mean) / total for point, value in zip(points, logs, strict=True)}
    text = f"{part.key}: slope per doubling of {part.x} {part.direction} 0{_name_series(part.series, points)}"
    return Contrast(text, part.direction, weights)


def name_target(part: Extreme) -> str:
    """The value of x at which the extreme is claimed, as text."""
    return f"{part.x} = {part.at}" if isinstance(part.at, str) else f"{part.x} = {part.at:g}"


def _extreme(part: Extreme, panel: Panel, points: Sequence[Point]) -> list[Contrast]:
    def is_target(point: Point) -> bool:
        return point.x == (getattr(point.network, part.at) if isinstance(part.at, str) else part.at)

    side: Literal["<", ">"] = "<" if part.kind == "lowest" else ">"
    where = _name_series(part.series, points)
    target = [point for point in points if is_target(point)]
    others = [point for point in points if not is_target(point)]
    if not target or not others:
        lacks = f"arm with {name_target(part) if not target else 'other ' + part.x}"
        return [Contrast(f"{part.key}: {part.kind} at {name_target(part)}{where}", side, lacks=lacks)]
    name = f"{part.key}: {part.x} {target[0].x:g} {side}"
    contrasts = [Contrast(f"{name} mean of the others{where}", side, _difference(target, others))]
    means = {point: summary.mean for point in others if (summary := summarise(panel.values(point.arm, part.key)))}
    if means:
        rival = (min if side == "<" else max)(means, key=means.__getitem__)
        text = f"{name} {rival.x:g}, next by mean{where}"
        contrasts.append(Contrast(text, side, _difference(target, [rival]), nearest=True))
    return contrasts
