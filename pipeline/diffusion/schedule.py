"""The discrete linear variance-preserving schedule of DDPM (Ho et al. 2020)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.schema.diffusion import Diffusion


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


def make_schedule(diffusion: Diffusion, device: str = "cpu") -> Schedule:
    """Linear beta from beta_min / levels to beta_max / levels (score_sde's units)."""
    levels = diffusion.levels
    betas = torch.linspace(diffusion.beta_min / levels, diffusion.beta_max / levels, levels, dtype=torch.float64)
    return Schedule(betas.to(device), torch.cumprod(1 - betas, 0).to(device))


def take_root(x: Tensor) -> Tensor:
    """The square root, rounded correctly; of what needs no gradient.

    On a CPU torch's own is MKL's, which starts from the CPU's estimate of 1 / sqrt(x): its last bit is the maker's.
    """
    return torch.from_numpy(np.sqrt(x.numpy())) if x.device.type == "cpu" else x.sqrt()


def add_noise(schedule: Schedule, x: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar) x + sqrt(1 - alpha_bar) noise; images [B, C, H, W], levels [B], all on one device."""
    alpha_bar = schedule.alphas_bar[level].view(-1, 1, 1, 1)
    return take_root(alpha_bar).to(x.dtype) * x + take_root(1 - alpha_bar).to(x.dtype) * noise
