"""The discrete linear variance-preserving schedule of DDPM (Ho et al. 2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """beta and the products of 1 - beta, by level; float64 [levels]."""

    betas: Tensor
    alphas_bar: Tensor
    """Share of the signal's variance that is left at each level."""

    @property
    def levels(self) -> int:
        """Number of noise levels."""
        return len(self.betas)


def make_schedule(levels: int, beta_min: float, beta_max: float) -> Schedule:
    """Linear beta from beta_min / levels to beta_max / levels (score_sde's units)."""
    betas = torch.linspace(beta_min / levels, beta_max / levels, levels, dtype=torch.float64)
    return Schedule(betas, torch.cumprod(1 - betas, 0))


def add_noise(schedule: Schedule, x: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar) x + sqrt(1 - alpha_bar) noise, for images [B, C, H, W] and levels [B]."""
    alpha_bar = schedule.alphas_bar.to(x.device)[level].view(-1, 1, 1, 1)
    return alpha_bar.sqrt().to(x.dtype) * x + (1 - alpha_bar).sqrt().to(x.dtype) * noise
