"""The comparisons of a claim as weighted sums of arms.

An effect weighs two arms with 1 and -1, a slope weighs each arm as least squares does. So one rule decides them all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Literal

from pipeline.report.panel import Panel
from pipeline.report.statistics import summarise
from pipeline.report.sweeps import Point, Value, name_value, read_coordinate
from pipeline.schema.arm import BASELINE
from pipeline.schema.claim import Agrees, Bound, Comparison, Effect, Equal, Extreme, Slope, Split, Swept, Trend

Side = Literal["<", ">", "="]
Sweep = Callable[[str, str | None, str], Sequence[Point]]
"""Finds the arms of a case that vary a field, in the series of another, beside what an arm overrides."""


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms plus an offset, which a claim says is below, above or equal to 0."""

    text: str
    side: Side
    weights: Mapping[str, float] = field(default_factory=dict)
    offset: float = 0.0
    logs: bool = False
    """Whether it is the natural logarithms of the values that are weighed."""
    tolerance: float | None = None
    """How far from 0 what is equal may be; None: one unit of the last decimal shown."""
    each: bool = False
    """Whether every seed must fulfil it, however many, and not their mean: where nothing is left to chance."""
    lacks: str = ""
    """Why there is nothing to compare: what params.yaml does not ask for."""
    nearest: bool = False
    """Whether an extreme is compared with the nearest of the others, and not with their mean."""


def find_contrasts(part: Comparison, panel: Panel, sweep: Sweep) -> list[list[Contrast]]:
    """The contrasts of a comparison, those of one series together."""
    if isinstance(part, Effect):
        return [[_subtract(part.key, part.arm, part.direction, part.reference)]]
    if isinstance(part, Equal):
        return [[_equality(part)]]
    if isinstance(part, Agrees):
        return [[_agreement(part)]]
    if isinstance(part, Bound):
        text = f"{part.key}: `{part.arm}` {part.direction} {part.value:g}{_name_each(part.each)}"
        return [[Contrast(text, part.direction, {part.arm: 1.0}, -part.value, each=part.each)]]
    if isinstance(part, Split):
        return [[_split(part, sweep(part.x, None, BASELINE))]]
    points = sweep(part.x, part.series, part.fixed)
    groups = [[point for point in points if point.series == value] for value in _series(points)]
    if not groups:
        text = f"{part.key}: {part.kind} along {part.x}"
        return [[Contrast(text, "=", lacks=f"params.yaml has no arms that vary {part.x}")]]
    if isinstance(part, Slope):
        return [[_slope(part, group)] for group in groups]
    if isinstance(part, Trend):
        return [[_trend(part, group)] for group in groups]
    return [_extreme(part, panel, group) for group in groups]


def _name_each(each: bool) -> str:
    return ", each seed" if each else ""


def _agreement(part: Agrees) -> Contrast:
    value = f"{part.key}_exact" if part.exact is None else f"{part.exact:g}"
    within = f"{part.errors:g} standard errors" if part.tolerance is None else f"{part.tolerance:g}, each seed"
    text = f"{part.key}: `{part.arm}` = {value} within {within}"
    each = part.tolerance is not None
    return Contrast(text, "=", {part.arm: 1.0}, -(part.exact or 0.0), tolerance=part.tolerance, each=each)


def _is_at(point: Point, value: float | str | None) -> bool:
    """Whether x is a value, or that of another field of the same run."""
    return point.x == (read_coordinate(point.run, value) if isinstance(value, str) else value)


def _series(points: Sequence[Point]) -> list[Value | None]:
    """The series in which x varies; an arm that stands alone in its series is no sweep."""
    seen = dict.fromkeys(point.series for point in points)
    return [value for value in seen if len({point.x for point in points if point.series == value}) > 1]


def _subtract(key: str, arm: str, side: Side, reference: str) -> Contrast:
    text = f"{key}: `{arm}` {side} `{reference}`"
    if arm == reference:
        return Contrast(text, side, lacks=f"both arms are `{arm}` on this case")
    return Contrast(text, side, {arm: 1.0, reference: -1.0})


def _equality(part: Equal) -> Contrast:
    if part.value is not None:
        text = f"{part.key}: `{part.arm}` = {part.value:.{part.digits}f}"
        return Contrast(text, "=", {part.arm: 1.0}, -part.value)
    assert part.reference is not None
    return _subtract(part.key, part.arm, "=", part.reference)


def _difference(points: Sequence[Point], others: Sequence[Point]) -> dict[str, float]:
    """Weights of the mean over some arms minus the mean over others."""
    weights: dict[str, float] = {point.arm: 1 / len(points) for point in points}
    return weights | {point.arm: -1 / len(others) for point in others}


def _split(part: Split, points: Sequence[Point]) -> Contrast:
    high = [point for point in points if point.x > part.above]
    low = [point for point in points if point.x <= part.up_to]
    word = "below" if part.direction == "<" else "above"
    text = f"{part.key}: mean over {part.x} above {part.above:g} {word} mean over {part.x} up to {part.up_to:g}"
    if not high or not low:
        side = f"above {part.above:g}" if not high else f"up to {part.up_to:g}"
        return Contrast(text, part.direction, lacks=f"params.yaml has no arm with {part.x} {side}")
    return Contrast(text, part.direction, _difference(high, low))


def _name_series(part: Swept, points: Sequence[Point]) -> str:
    fixed = "" if part.fixed == BASELINE else f", `{part.fixed}`"
    return fixed + ("" if part.series is None else f", {part.series} {name_value(points[0].series)}")


def _name_value(x: str, value: float | str) -> str:
    return f"{x} = {value}" if isinstance(value, str) else f"{x} = {value:g}"


def _fit(
    part: Trend | Slope, points: Sequence[Point], log: Callable[[float], float]
) -> tuple[str, dict[str, float], str]:
    """Of a least-squares slope against the logarithm of x: where it is, its weights, and what it lacks."""
    kept = [point for point in points if not _is_at(point, part.without) and point.x > 0]  # 0 has no logarithm
    beside = "" if part.without is None else f", without {_name_value(part.x, part.without)}"
    if any(point.x <= 0 for point in points):
        beside += f", without {part.x} up to 0"
    where = beside + _name_series(part, points)
    if len({point.x for point in kept}) < 2:
        return where, {}, f"params.yaml has no arms with two values of {part.x}{where}"
    logs = [log(point.x) for point in kept]
    mean = math.fsum(logs) / len(logs)
    total = math.fsum((value - mean) ** 2 for value in logs)
    weights: dict[str, float] = {point.arm: (value - mean) / total for point, value in zip(kept, logs, strict=True)}
    return where, weights, ""


def _trend(part: Trend, points: Sequence[Point]) -> Contrast:
    where, weights, lacks = _fit(part, points, math.log2)
    text = f"{part.key}: slope per doubling of {part.x} {part.direction} 0{where}"
    return Contrast(text, part.direction, weights, lacks=lacks)


def _slope(part: Slope, points: Sequence[Point]) -> Contrast:
    where, weights, lacks = _fit(part, points, math.log)
    about = f"{part.slope:g} ± {part.tolerance:g}{_name_each(part.each)}"
    text = f"log {part.key}: slope against log {part.x} = {about}{where}"
    rule = Contrast(text, "=", weights, -part.slope, logs=True, lacks=lacks)
    return replace(rule, tolerance=part.tolerance, each=part.each)


def name_target(part: Extreme) -> str:
    """The value of x at which the extreme is claimed, as text."""
    return _name_value(part.x, part.at)


def _extreme(part: Extreme, panel: Panel, points: Sequence[Point]) -> list[Contrast]:
    side: Literal["<", ">"] = "<" if part.kind == "lowest" else ">"
    where = _name_series(part, points)
    target = [point for point in points if _is_at(point, part.at)]
    others = [point for point in points if not _is_at(point, part.at)]
    if not target or not others:
        lacks = f"arm with {name_target(part) if not target else 'other ' + part.x}"
        text = f"{part.key}: {part.kind} at {name_target(part)}{where}"
        return [Contrast(text, side, lacks=f"params.yaml has no {lacks}")]
    name = f"{part.key}: {part.x} {target[0].x:g} {side}"
    contrasts = [Contrast(f"{name} mean of the others{where}", side, _difference(target, others))]
    found = ((point, summarise(panel.values(point.arm, part.key))) for point in others)
    means = [(point, summary.mean) for point, summary in found if summary is not None]
    if means:
        rival, _ = (min if side == "<" else max)(means, key=itemgetter(1))
        text = f"{name} {rival.x:g}, next by mean{where}"
        contrasts.append(Contrast(text, side, _difference(target, [rival]), nearest=True))
    return contrasts
