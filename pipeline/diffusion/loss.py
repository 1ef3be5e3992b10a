"""The training loss of DDPM."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.diffusion.schedule import Schedule, add_noise

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Predicts the noise: (x [B, C, H, W], level [B], float) -> [B, C, H, W]."""


def noise_loss(denoiser: Denoiser, schedule: Schedule, x: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of the predicted noise at uniform random levels, unweighted (facts 3.3).

    Args:
        x: images [B, C, H, W] in [-1, 1].
        generator: draws levels and noise, on the device of x.
    """
    level = torch.randint(0, schedule.levels, (len(x),), generator=generator, device=x.device)
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    predicted = denoiser(add_noise(schedule, x, level, noise), level.float())
    return (predicted.float() - noise).square().mean()
