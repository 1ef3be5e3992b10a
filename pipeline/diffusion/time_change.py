"""Changes of time: a monotone map tau of [0, 1] onto itself. It dilates a schedule, and it makes a sampling grid.

Uniform steps in s on the dilated schedule are the steps tau(s) on the schedule itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.diffusion.path import GaussianPath, Schedule
from pipeline.diffusion.schedule import take_root


@dataclass(frozen=True)
class TimeChange:
    """t = tau(s), with tau(0) = 0 (data), tau(1) = 1 (noise), increasing; both functions elementwise, of floats."""

    tau: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    """d tau / ds; at a kink, that of the side of the data, where sampling goes on."""

    def dilate(self, schedule: Schedule) -> Schedule:
        """The schedule in the time s: its derivatives by the chain rule."""

        def dilated(s: Tensor) -> GaussianPath:
            path, slope = schedule(self.tau(s)), self.slope(s)
            return GaussianPath(path.alpha, path.sigma, slope * path.d_alpha, slope * path.d_sigma)

        return dilated

    def make_grid(self, steps: int) -> Tensor:
        """Times [steps + 1] of a sampling grid, float64, from 1 (noise) to 0 (data): evenly spaced in s."""
        return self.tau(space_evenly(steps))


def space_evenly(steps: int) -> Tensor:
    """Times [steps + 1], float64, from 1 to 0."""
    return torch.arange(steps, -1, -1, dtype=torch.float64) / steps


def bend(middle: float) -> TimeChange:
    """Piecewise linear through tau(1/2) = middle: each part of the time gets half of the steps."""

    def tau(s: Tensor) -> Tensor:
        return torch.where(s <= 0.5, 2 * middle * s, 1 - (1 - middle) * (2 - 2 * s))

    def slope(s: Tensor) -> Tensor:
        return torch.where(s <= 0.5, torch.full_like(s, 2 * middle), 2 * (1 - middle))

    return TimeChange(tau, slope)


def power(exponent: float) -> TimeChange:
    """tau(s) = s^exponent: above 1, more steps near the data (2: the quadratic grid of Song et al. 2021, DDIM)."""
    return TimeChange(lambda s: s**exponent, lambda s: exponent * s ** (exponent - 1))


def straighten_noise(width: float) -> TimeChange:
    """For the trigonometric path: up to s = 1/2 its sigma = 2 width s, beyond its alpha is linear.

    Args:
        width: sigma at s = 1/2, in (0, 1).
    """

    def tau(s: Tensor) -> Tensor:
        squared = (2 * width * s).clamp(max=width) ** 2
        late = 1 - 2 * (1 - width**2) ** 0.5 * (1 - s)
        return torch.where(s <= 0.5, squared / (1 + take_root(1 - squared)), late)

    def slope(s: Tensor) -> Tensor:
        squared = (2 * width * s).clamp(max=width) ** 2
        early = 4 * width**2 * s / take_root(1 - squared)
        return torch.where(s <= 0.5, early, 2 * (1 - width**2) ** 0.5)

    return TimeChange(tau, slope)
