"""A comparison as a strip, a row of a forest plot: 0 in the middle, the claimed side on the right.

Claims are about quantities with different units: each strip has a scale of its own, which the farthest value fills.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.claims import Outcome
from pipeline.report.statistics import find_interval, summarise

WIDTH, HEIGHT = 120, 16
_MARGIN = 6
"""Free at both ends, for marks with a width."""


@dataclass(frozen=True)
class Strip:
    """Where the marks stand, from 0 to `WIDTH`."""

    mean: float
    ends: tuple[float, float] | None
    """Of the 95 % interval, from left to right; None where there is none, or where it decides nothing."""
    seeds: Sequence[float]
    """Where each seed decides, these."""
    paper: float | None
    allowed: tuple[float, float] | None
    """Of an equality, the part around 0 in which it holds."""


def _find_allowed(outcome: Outcome) -> float | None:
    """How far from 0 the effect of an equality may be."""
    if outcome.contrast.side != "=":
        return None
    known = (outcome.margin, outcome.contrast.tolerance, 10.0**-outcome.part.digits)
    return next(value for value in known if value is not None)


def lay_out_strip(outcome: Outcome) -> Strip | None:
    """The strip of a comparison; None without an effect."""
    if (summary := summarise(outcome.effects)) is None:
        return None
    seeds = list(outcome.effects.values()) if outcome.contrast.each else []
    ends = None if seeds or outcome.margin is not None else find_interval(summary)
    paper, allowed = outcome.paper, _find_allowed(outcome)
    shown = [summary.mean, *seeds, *(ends or ()), *(value for value in (paper, allowed) if value is not None)]
    farthest = max(map(abs, shown)) or 1.0
    sign = -1 if outcome.contrast.side == "<" else 1

    def place(value: float) -> float:
        return round(WIDTH / 2 + sign * value / farthest * (WIDTH / 2 - _MARGIN), 1)

    def order(low: float, high: float) -> tuple[float, float]:
        left, right = sorted((place(low), place(high)))
        return left, right

    return Strip(
        place(summary.mean),
        None if ends is None else order(*ends),
        [place(seed) for seed in seeds],
        None if paper is None else place(paper),
        None if allowed is None else order(-allowed, allowed),
    )
