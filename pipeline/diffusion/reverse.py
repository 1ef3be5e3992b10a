"""Solvers of the reverse SDE and of the probability-flow ODE on variance-preserving paths, written in f.

f = (alpha x_t - x0) / sigma^2, see `parametrisation.py`. With it the reverse SDE is
dx = (-(alpha'/alpha) x - 2 alpha' f) dt + g dW, g^2 = -2 alpha'/alpha, and the probability flow dx/d alpha = -f.
All solvers but Euler-Maruyama go from t = 1 to t = 0 with bounded coefficients; NFE is the number of steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from pipeline.diffusion.path import GaussianPath, Schedule

SolverName = Literal["exponential", "exponential2", "ancestral", "ddim", "ab2", "euler_maruyama"]
Predict = Callable[[GaussianPath, Tensor], Tensor]
"""(path at one time, x_t) to f, in the shape of x_t."""
Draw = Callable[[int], Tensor]
"""Standard normal noise in the shape of x, by number: k is what is added after step k, from 1 on."""
Callback = Callable[[int, Tensor], object]
"""(steps taken, x) before each step, and at the end."""


@dataclass(frozen=True)
class Step:
    """From one time to an earlier one; numbers."""

    alpha: float
    sigma: float
    alpha_next: float
    sigma_next: float
    d_alpha: float
    """d alpha / dt at the later time."""
    duration: float


@dataclass(frozen=True)
class Solver:
    """x at the next time is weights(step) = (of x, of f), plus spread(step) times noise."""

    weigh: Callable[[Step], tuple[float, float]]
    spread: Callable[[Step], float]
    """Standard deviation of the noise of a step; 0: an ODE solver."""
    clock: Callable[[float], float] | None = None
    """alpha to the variable in which f is extrapolated linearly from two steps; None: f is held constant."""


def _no_spread(_: Step) -> float:
    return 0.0


def _weigh_mean(step: Step) -> tuple[float, float]:
    """The linear part integrated exactly, f held constant; with x0 written in f it is the mean of DDPM's step."""
    return step.alpha / step.alpha_next, -(step.alpha_next**2 - step.alpha**2) / step.alpha_next


def _spread_exact(step: Step) -> float:
    """sqrt(1 - alpha^2 / alpha_next^2): DDPM's `large` variance (Ho et al. 2020, section 3.2)."""
    return math.sqrt((step.sigma - step.sigma_next) * (step.sigma + step.sigma_next)) / step.alpha_next


def _spread_posterior(step: Step) -> float:
    """DDPM's `small` variance, of x_s given x_t and x0 (Ho et al. 2020, equation 7)."""
    return _spread_exact(step) * step.sigma_next / step.sigma


def _weigh_ddim(step: Step) -> tuple[float, float]:
    """alpha_next x0 + sigma_next noise (Song et al. 2021, DDIM, equation 12 with sigma = 0)."""
    sine = step.sigma * step.alpha_next - step.alpha * step.sigma_next  # of the angle between both points
    return step.alpha * step.alpha_next + step.sigma * step.sigma_next, -step.sigma * sine


def _weigh_flow(step: Step) -> tuple[float, float]:
    """dx/d alpha = -f."""
    return 1.0, step.alpha - step.alpha_next


def _weigh_euler(step: Step) -> tuple[float, float]:
    """Euler's method for the reverse SDE (Song et al. 2021, score SDE, appendix D); alpha > 0."""
    return 1 + step.duration * step.d_alpha / step.alpha, 2 * step.duration * step.d_alpha


def _spread_euler(step: Step) -> float:
    return math.sqrt(-2 * step.d_alpha / step.alpha * step.duration)


SOLVERS: dict[SolverName, Solver] = {
    "exponential": Solver(_weigh_mean, _spread_exact),
    "exponential2": Solver(_weigh_mean, _spread_exact, clock=lambda alpha: alpha**2),
    "ancestral": Solver(_weigh_mean, _spread_posterior),
    "ddim": Solver(_weigh_ddim, _no_spread),
    "ab2": Solver(_weigh_flow, _no_spread, clock=lambda alpha: alpha),
    "euler_maruyama": Solver(_weigh_euler, _spread_euler),
}


def _list_steps(path: GaussianPath, times: Tensor) -> list[Step]:
    alpha, sigma, d_alpha, t = (values.tolist() for values in (path.alpha, path.sigma, path.d_alpha, times))
    pairs = pairwise(zip(alpha, sigma, d_alpha, t, strict=True))
    return [Step(a, s, a_next, s_next, d, t - t_next) for (a, s, d, t), (a_next, s_next, _, t_next) in pairs]


@torch.no_grad()
def solve_reverse(
    solver: Solver,
    schedule: Schedule,
    times: Tensor,
    x: Tensor,
    predict: Predict,
    draw: Draw,
    callback: Callback = lambda *_: None,
) -> Tensor:
    """x at the last of the times, from x at the first; in the shape of x.

    Args:
        times: [K + 1], falling. f is asked for at the first K, never at the last.
    """
    path, before = schedule(times), None
    steps = _list_steps(path, times)
    for index, step in enumerate(steps):
        callback(index, x)
        now = GaussianPath(path.alpha[index], path.sigma[index], path.d_alpha[index], path.d_sigma[index])
        f = held = predict(now, x)
        if solver.clock is not None and before is not None:
            held = f + _extrapolate(solver.clock, steps[index - 1], step) * (f - before)
        of_x, of_f = solver.weigh(step)
        x, before = of_x * x + of_f * held, f
        if (spread := solver.spread(step)) > 0:
            x = x + spread * draw(index + 1)
    callback(len(steps), x)
    return x


def _extrapolate(clock: Callable[[float], float], last: Step, step: Step) -> float:
    """Half of this step over the last one, by the clock: to the middle of this step."""
    now = clock(step.alpha)
    return (clock(step.alpha_next) - now) / (now - clock(last.alpha)) / 2
