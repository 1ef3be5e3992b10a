"""Noise schedules in continuous time: t in [0, 1], 0 the data and 1 the noise.

The DDPM study's is in `schedule.py`, so that a new one here makes no model stale.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.diffusion.path import GaussianPath, Schedule, preserve_variance
from pipeline.diffusion.schedule import take_root


@dataclass(frozen=True)
class VpLinear:
    """The variance-preserving schedule with beta(t) = beta_min + t (beta_max - beta_min).

    Song et al. 2021, score SDE: the SDE is equation 11, alpha and sigma are equation 29 with the beta of appendix C.
    """

    beta_min: float
    beta_max: float

    def beta(self, t: Tensor) -> Tensor:
        """The noise rate beta(t)."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def __call__(self, t: Tensor) -> GaussianPath:
        """The path at times t, a tensor of floats; at t = 0 sigma is 0 and d_sigma infinite.

        Differs: score_sde's sigma is sqrt(1 - exp(2 log alpha)), which has few digits near t = 0; expm1 keeps them.
        """
        log_alpha = -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2
        return preserve_variance(log_alpha.exp(), take_root(-torch.expm1(2 * log_alpha)), self.beta(t))


def linear_path(t: Tensor) -> GaussianPath:
    """The straight path of flow matching: alpha = 1 - t, sigma = t.

    Lipman et al. 2023, equation 20 with sigma_min = 0. Differs: their time runs from noise to data.
    """
    return GaussianPath(1 - t, t, -torch.ones_like(t), torch.ones_like(t))


def trigonometric_path(t: Tensor) -> GaussianPath:
    """The variance-preserving path in which the data's factor is linear: alpha = 1 - t, sigma = sqrt(1 - alpha^2).

    Albergo et al. 2023, stochastic interpolants, have it as sine and cosine, in another time. d_sigma is
    infinite at t = 0.
    """
    alpha, sigma = 1 - t, take_root(t * (2 - t))
    return GaussianPath(alpha, sigma, -torch.ones_like(t), alpha / sigma)


def amplify_noise(schedule: Schedule, factor: float) -> Schedule:
    """A schedule with `factor` times the noise; with factor sqrt(d), what high dimension calls variance-exploding.

    Aranguri et al. 2025 (arXiv 2501.00988): the noise then outweighs the data's mean, of norm sqrt(d), from the start.
    """

    def amplified(t: Tensor) -> GaussianPath:
        path = schedule(t)
        return replace(path, sigma=factor * path.sigma, d_sigma=factor * path.d_sigma)

    return amplified
