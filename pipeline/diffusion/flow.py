"""The probability-flow ODE of a Gaussian path, and Euler's method for it; in NumPy, float64."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.diffusion.path import GaussianPath, Schedule
from pipeline.diffusion.time_change import space_evenly

Array = NDArray[np.float64]
PredictX0 = Callable[[float, float, Array], Array]
"""(alpha, sigma, x_t) to E[x_0 | x_t], in the shape of x_t."""


def weigh_flow(path: GaussianPath) -> tuple[Tensor, Tensor]:
    """The weights of x_t and of E[x_0 | x_t] in the velocity dx/dt of the probability flow.

    dx/dt = alpha' E[x_0 | x_t] + sigma' E[noise | x_t], with the noise written in x_t and x_0 (Albergo et al. 2023,
    stochastic interpolants).
    """
    of_x = path.d_sigma / path.sigma
    return of_x, path.d_alpha - path.alpha * of_x


def follow_flow(
    schedule: Schedule,
    predict_x0: PredictX0,
    x: Array,
    steps: int,
    callback: Callable[[int, Array], object] = lambda *_: None,
) -> Array:
    """Samples at t = 0, by `steps` uniform Euler steps from t = 1; the schedule is never asked for t = 0.

    Args:
        x: samples of sigma_1 noise, at t = 1, in any shape that `predict_x0` takes.
        callback: (steps taken, x) before each step, and at the end.
    """
    path = schedule(space_evenly(steps)[:-1])
    of_x, of_x0 = (weight.tolist() for weight in weigh_flow(path))
    for step, (alpha, sigma) in enumerate(zip(path.alpha.tolist(), path.sigma.tolist(), strict=True)):
        callback(step, x)
        x = x - (of_x[step] * x + of_x0[step] * predict_x0(alpha, sigma, x)) / steps
    callback(steps, x)
    return x
