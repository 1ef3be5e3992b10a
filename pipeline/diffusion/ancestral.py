"""Ancestral sampling on any Gaussian path: the reverse of the noising process, in NumPy, float64.

With the exact posterior mean and fine steps it draws x_0 given x_t: what a U-turn does, to a noise level and back. The
probability flow would return to the very point that it came from.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.diffusion.path import GaussianPath, Schedule
from pipeline.diffusion.schedule import take_root

Array = NDArray[np.float64]
PredictX0 = Callable[[float, float, Array], Array]
"""(alpha, sigma, x_t) to E[x_0 | x_t], in the shape of x_t."""


def weigh_posterior(noisy: GaussianPath, clean: GaussianPath) -> tuple[Tensor, Tensor, Tensor]:
    """Of x_s given x_t and x_0, s < t: the weights of x_t and x_0 in the mean, and the standard deviation.

    Kingma et al. 2021, variational diffusion models, appendix A; Ho et al. 2020, equation 7, is a case of it.

    Args:
        noisy: the path at times t.
        clean: the path at times s.
    """
    ratio = noisy.alpha / clean.alpha
    added = noisy.sigma**2 - ratio**2 * clean.sigma**2
    of_noisy = ratio * (clean.sigma / noisy.sigma) ** 2
    return of_noisy, clean.alpha * added / noisy.sigma**2, clean.sigma / noisy.sigma * take_root(added.clamp(min=0))


def follow_reverse(
    schedule: Schedule, predict_x0: PredictX0, x: Array, grid: Tensor, draw: Callable[[], Array]
) -> Array:
    """Samples at the last time of a grid, from x at its first.

    Args:
        grid: falling times, float64; at the last one sigma may be 0, at the first one alpha may be.
        draw: standard normal noise in the shape of x, new at each call; asked for where a step adds some.
    """
    noisy, clean = schedule(grid[:-1]), schedule(grid[1:])
    of_x, of_x0, spread = (weight.tolist() for weight in weigh_posterior(noisy, clean))
    for step, (alpha, sigma) in enumerate(zip(noisy.alpha.tolist(), noisy.sigma.tolist(), strict=True)):
        x = of_x[step] * x + of_x0[step] * predict_x0(alpha, sigma, x)
        if spread[step] > 0:
            x = x + spread[step] * draw()
    return x
