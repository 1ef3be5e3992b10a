"""The training loss of DDPM."""

from collections.abc import Callable

from torch import Tensor

from pipeline.diffusion.path import Schedule, add_noise

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Predicts the noise: (x [B, C, H, W], level [B] or, for all, [1], float) -> [B, C, H, W].

The level comes second. A vector field has its time first, (t, x), as ODE solvers call it.
"""


def noise_loss(denoiser: Denoiser, schedule: Schedule, x: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, unweighted, over batch and pixels (Ho et al. 2020, equation 14).

    Args:
        schedule: on the device of x.
        x: images [B, C, H, W] in [-1, 1].
        level: [B], int64, uniform over the levels.
        noise: standard normal, in the shape of x.
    """
    predicted = denoiser(add_noise(schedule(level), x, noise), level.float())
    return (predicted.float() - noise).square().mean()
