"""The discrete linear variance-preserving schedule of DDPM (Ho et al. 2020, section 4)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.diffusion.path import GaussianPath, preserve_variance
from pipeline.schema.diffusion import Diffusion


def take_root(x: Tensor) -> Tensor:
    """The square root, correctly rounded; for tensors that need no gradient.

    On a CPU, torch calls MKL, which starts from the CPU's own estimate of 1 / sqrt(x): the last bit depends on the CPU.
    """
    # NumPy returns a scalar for an array without dimensions; asarray makes it an array again.
    return torch.from_numpy(np.asarray(np.sqrt(x.numpy()))) if x.device.type == "cpu" else x.sqrt()


@dataclass(frozen=True)
class DiscreteSchedule:
    """beta and the products of 1 - beta, by level; float64 [levels]. Level 0 is the least noisy.

    Level i stands for the time (i + 1) / levels of the continuous schedule that this one discretises (Song et al. 2021,
    score SDE, appendix B). With score_sde's 1000 levels that is also the time at which its sampler visits level i.
    """

    betas: Tensor
    alphas_bar: Tensor
    """alpha^2: the share of the signal's variance that is left at each level (Ho et al. 2020, above equation 4)."""

    @property
    def levels(self) -> int:
        """Number of noise levels."""
        return len(self.betas)

    def __call__(self, level: Tensor | int) -> GaussianPath:
        """The path at levels [B] or [], on the schedule's device; float64.

        Differs: levels have no time derivative. d_alpha and d_sigma are those of the VP SDE at this alpha and sigma,
        with the rate beta(t) = levels betas[level] (Song et al. 2021, score SDE, appendix B).
        """
        alpha_bar = self.alphas_bar[level]
        return preserve_variance(take_root(alpha_bar), take_root(1 - alpha_bar), self.levels * self.betas[level])


def make_schedule(diffusion: Diffusion, device: str = "cpu") -> DiscreteSchedule:
    """Linear beta from beta_min / levels to beta_max / levels (score_sde's units)."""
    levels = diffusion.levels
    betas = torch.linspace(diffusion.beta_min / levels, diffusion.beta_max / levels, levels, dtype=torch.float64)
    return DiscreteSchedule(betas.to(device), torch.cumprod(1 - betas, 0).to(device))
