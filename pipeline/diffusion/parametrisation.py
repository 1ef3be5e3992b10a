"""What a network's output F stands for, as one family: the x0-prediction is A x_t + B F.

On variance-preserving paths, alpha^2 + sigma^2 = 1. `f` is the output of the parametrisation `full`,
f = (alpha x_t - x0) / sigma^2. All that samplers and losses need is bounded in x_t and f on the closed interval:

    x0 = alpha x_t - sigma^2 f,  noise = sigma (x_t + alpha f),  v = sigma f,  score = -(x_t + alpha f)

So f = C x_t + D F with C = (alpha - A) / sigma^2 and D = -B / sigma^2: a parametrisation is safe at both ends exactly
where C and D are bounded there. `full` is derived here: it follows no published formula.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.diffusion.path import GaussianPath
from pipeline.diffusion.schedule import take_root


@dataclass(frozen=True)
class Coefficients:
    """x0 = of_x x_t + of_output F, and f = f_of_x x_t + f_of_output F; [B] or [], as the path is."""

    of_x: Tensor
    """A."""
    of_output: Tensor
    """B."""
    f_of_x: Tensor
    """C."""
    f_of_output: Tensor
    """D."""


Parametrisation = Callable[[GaussianPath, float], Coefficients]
"""(path, standard deviation of the data) to the coefficients; only EDM's read the second."""


def _predict_noise(path: GaussianPath, _: float) -> Coefficients:
    alpha, sigma = path.alpha, path.sigma
    return Coefficients(1 / alpha, -sigma / alpha, -1 / alpha, 1 / (alpha * sigma))


def _predict_x0(path: GaussianPath, _: float) -> Coefficients:
    alpha, square = path.alpha, path.sigma**2
    return Coefficients(torch.zeros_like(alpha), torch.ones_like(alpha), alpha / square, -1 / square)


def _predict_v(path: GaussianPath, _: float) -> Coefficients:
    """v = alpha noise - sigma x0 (Salimans and Ho 2022, section 4)."""
    return Coefficients(path.alpha, -path.sigma, torch.zeros_like(path.alpha), 1 / path.sigma)


def _predict_edm(path: GaussianPath, data: float) -> Coefficients:
    """c_skip and c_out of Karras et al. 2022, table 1, for x_t / alpha with the noise sigma / alpha."""
    variance = path.sigma**2 + (data * path.alpha) ** 2
    root = take_root(variance)
    return Coefficients(
        data**2 * path.alpha / variance,
        data * path.sigma / root,
        path.alpha * (1 - data**2) / variance,
        -data / (path.sigma * root),
    )


def _predict_edm_full(path: GaussianPath, data: float) -> Coefficients:
    """EDM's with c_out times sigma: another member of the safe class."""
    edm = _predict_edm(path, data)
    variance = path.sigma**2 + (data * path.alpha) ** 2
    return Coefficients(edm.of_x, path.sigma * edm.of_output, edm.f_of_x, -data / take_root(variance))


def _predict_flow(path: GaussianPath, _: float) -> Coefficients:
    """The velocity noise - x0 of the straight path (Lipman et al. 2023), on which x_t / (alpha + sigma) lies."""
    alpha, sigma = path.alpha, path.sigma
    total = alpha + sigma
    return Coefficients(1 / total, -sigma / total, (alpha - sigma) / (sigma * total), 1 / (sigma * total))


def _predict_full(path: GaussianPath, _: float) -> Coefficients:
    return Coefficients(path.alpha, -(path.sigma**2), torch.zeros_like(path.alpha), torch.ones_like(path.alpha))


PARAMETRISATIONS: dict[str, Parametrisation] = {
    "noise": _predict_noise,
    "x0": _predict_x0,
    "v": _predict_v,
    "edm": _predict_edm,
    "flow": _predict_flow,
    "edm_full": _predict_edm_full,
    "full": _predict_full,
}


def convert_f(path: GaussianPath, x: Tensor, f: Tensor) -> dict[str, Tensor]:
    """x0, noise, v and score of x_t and f, all bounded; the path, x_t and f of shapes that broadcast."""
    alpha, sigma = path.alpha, path.sigma
    return {
        "x0": alpha * x - sigma**2 * f,
        "noise": sigma * (x + alpha * f),
        "v": sigma * f,
        "score": -(x + alpha * f),
    }
