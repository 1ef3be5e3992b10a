"""Euler's method on the mixture without samples: what it makes of the weight and of the spread, by its own map.

A step maps the mean m of the coordinates to keep m + push tanh(tilt + steepness m), and an orthogonal coordinate x to
keep x. Where all keep > 0 the map of m is increasing: a sample ends in the mode at mu if it starts above one threshold.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.diffusion.flow import weigh_flow
from pipeline.diffusion.path import Schedule
from pipeline.diffusion.targets import Mixture
from pipeline.diffusion.time_change import space_evenly

Array = NDArray[np.float64]
_WEIGHT_TOLERANCE, _SPREAD_TOLERANCE = 0.012, 0.1
"""How near both are to the target where steps suffice: absolute, and relative (our choice)."""


@dataclass(frozen=True)
class EulerMap:
    """The steps [K] of Euler's method, the first one from the noise."""

    keep: Array
    push: Array
    steepness: Array
    tilt: float
    prior: float
    """Standard deviation of the noise at the start."""

    @property
    def spread(self) -> float:
        """Standard deviation of a mode at the end, exact."""
        return float(self.prior * np.prod(self.keep))

    def find_threshold(self) -> float | None:
        """The m at the start that ends at 0, backwards step by step; None: a step is not monotone."""
        if not (self.keep > 0).all():
            return None
        m, steps = 0.0, zip(self.keep.tolist(), self.push.tolist(), self.steepness.tolist(), strict=True)
        for keep, push, steepness in reversed(list(steps)):
            m = _invert_step(m, keep, push, steepness, self.tilt)
        return m

    def find_weight(self, dimension: int) -> float | None:
        """Weight of the mode at mu at the end: of starts m ~ N(0, prior^2 / d), those above the threshold."""
        threshold = self.find_threshold()
        return None if threshold is None else math.erfc(threshold * math.sqrt(dimension / 2) / self.prior) / 2


def make_map(schedule: Schedule, mixture: Mixture, steps: int) -> EulerMap:
    """Euler's method with so many uniform steps from t = 1 to 0."""
    path = schedule(space_evenly(steps)[:-1])
    gain, pull, steepness = mixture.weigh(path.alpha.numpy(), path.sigma.numpy())
    of_x, of_x0 = (weight.numpy() for weight in weigh_flow(path))
    keep = 1 - (of_x + of_x0 * gain) / steps
    push = -of_x0 * pull * mixture.distance / steps
    return EulerMap(keep, push, steepness, mixture.tilt, float(path.sigma[0]))


def _invert_step(end: float, keep: float, push: float, steepness: float, tilt: float) -> float:
    """The m with keep m + push tanh(tilt + steepness m) = end.

    With z = tilt + steepness m it is slope z + tanh z = height. From z = 0 Newton's method never oversteps: the left
    side is concave beyond 0, and odd.
    """
    if push * steepness == 0:
        return (end - push * math.tanh(tilt)) / keep
    slope = keep / (push * steepness)
    height = end / push + slope * tilt
    z = 0.0
    for _ in range(200):
        tanh = math.tanh(z)
        change = (height - slope * z - tanh) / (slope + 1 - tanh**2)
        z += change
        if abs(change) <= 1e-14 * (1 + abs(z)):
            break
    return (z - tilt) / steepness


def _suffices(schedule: Schedule, mixture: Mixture, steps: int) -> bool:
    euler = make_map(schedule, mixture, steps)
    if abs(euler.spread / mixture.spread - 1) >= _SPREAD_TOLERANCE:
        return False
    weight = euler.find_weight(mixture.dimension)
    return weight is not None and abs(weight - mixture.weight) < _WEIGHT_TOLERANCE


def find_steps(schedule: Schedule, mixture: Mixture, most: int = 10_000_000) -> int | None:
    """The fewest steps that keep the weight within 0.012 and the spread within 10 %, by doubling, then halving.

    Few steps may do by accident, where an error changes its sign: so it starts at 8. None: `most` do not do.
    """
    high = 8
    while not _suffices(schedule, mixture, high):
        high *= 2
        if high > most:
            return None
    low = high // 2
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if _suffices(schedule, mixture, middle) else (middle, high)
    return high
