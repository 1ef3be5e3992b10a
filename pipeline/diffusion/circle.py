"""Variance-preserving paths in continuous time, alpha^2 + sigma^2 = 1: the same quarter circle at different speeds.

t in [0, 1], 0 the data and 1 the noise. Every path is one of these after division by sqrt(alpha^2 + sigma^2), and then
has the same probability flow.
"""

import math

import torch
from torch import Tensor

from pipeline.diffusion.path import GaussianPath, Schedule
from pipeline.diffusion.schedule import take_root


def cosine_path(t: Tensor) -> GaussianPath:
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2), with bounded derivatives (Albergo et al. 2023; up to an offset
    Nichol and Dhariwal 2021, equation 17).

    alpha is written as a sine, so that alpha is 0 at t = 1 exactly.
    """
    quarter = math.pi / 2
    alpha, sigma = (quarter * (1 - t)).sin(), (quarter * t).sin()
    return GaussianPath(alpha, sigma, -quarter * sigma, quarter * alpha)


def noise_path(t: Tensor) -> GaussianPath:
    """sigma = t, alpha = sqrt(1 - t^2); d_alpha is infinite at t = 1."""
    alpha = take_root((1 - t) * (1 + t))
    return GaussianPath(alpha, t, -t / alpha, torch.ones_like(t))


def log_snr_path(t: Tensor, first: float = 13.3, last: float = -5.0) -> GaussianPath:
    """log(alpha^2 / sigma^2) falls linearly from `first` to `last` (Kingma et al. 2021, VDM, section 4; their ends)."""
    rate = last - first
    ratio = (first + rate * t).exp()
    sigma = take_root(1 / (1 + ratio))
    alpha = take_root(ratio / (1 + ratio))
    return GaussianPath(alpha, sigma, alpha * sigma**2 * rate / 2, -sigma * alpha**2 * rate / 2)


def exploding_path(t: Tensor, sigma_max: float = 80.0) -> GaussianPath:
    """The variance-exploding path alpha = 1, sigma = sigma_max t (Karras et al. 2022, table 1; their sigma_max).

    It ends at a finite noise, so it never reaches the standard normal that sampling starts from.
    """
    return GaussianPath(torch.ones_like(t), sigma_max * t, torch.zeros_like(t), torch.full_like(t, sigma_max))


def preserve(schedule: Schedule) -> Schedule:
    """A schedule for x / sqrt(alpha^2 + sigma^2): the variance-preserving one with the same signal-to-noise ratio."""

    def preserved(t: Tensor) -> GaussianPath:
        path = schedule(t)
        size = take_root(path.alpha**2 + path.sigma**2)
        alpha, sigma = path.alpha / size, path.sigma / size
        turn = (path.d_sigma * alpha - path.d_alpha * sigma) / size  # speed along the circle
        return GaussianPath(alpha, sigma, -turn * sigma, turn * alpha)

    return preserved
