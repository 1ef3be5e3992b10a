"""Sampling from a discrete diffusion model."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pipeline.diffusion.loss import Denoiser
from pipeline.diffusion.output import NOISE, Output
from pipeline.diffusion.path import predict_x0
from pipeline.diffusion.schedule import DiscreteSchedule
from pipeline.schema.diffusion import Sampling

Draw = Callable[[int], Tensor]
"""Standard normal noise [B, C, H, W] by number: 0 is where sampling starts, k what is added after step k."""
Callback = Callable[[int, Tensor, Tensor], object]
"""Callback before each step: (steps taken, x_t [B, C, H, W], predicted noise [B, C, H, W])."""


def choose_levels(levels: int, steps: int) -> list[int]:
    """Levels to visit, evenly spaced, the noisiest first; with one step, the noisiest only."""
    return torch.linspace(levels - 1, 0, steps, dtype=torch.float64).round().long().tolist()


def level_input(level: int, levels: int, kind: Literal["fractional", "integer"]) -> float:
    """The level passed to the network.

    `integer` is the level itself, as DDPM and diffusers have it. `fractional` is score_sde's: (levels - 1) t, where t
    falls from 1 to 1e-3 in `levels` values.
    """
    if kind == "integer":
        return float(level)
    return (levels - 1) * (1e-3 + (1 - 1e-3) * level / (levels - 1))


def _weigh(sampler: Literal["ancestral", "ddim"], alpha_bar: float, alpha_bar_next: float) -> tuple[float, float]:
    """Weights of the x0-prediction and of x_t in the mean of the next x."""
    if sampler == "ddim":  # Song et al. 2021, DDIM, equation 12 with sigma = 0, its noise written in x_t and x0
        ratio = ((1 - alpha_bar_next) / (1 - alpha_bar)) ** 0.5
        return alpha_bar_next**0.5 - ratio * alpha_bar**0.5, ratio
    # Ho et al. 2020, equation 7. Where levels are skipped, alpha is the product over the levels between.
    alpha = alpha_bar / alpha_bar_next
    return (
        alpha_bar_next**0.5 * (1 - alpha) / (1 - alpha_bar),
        alpha**0.5 * (1 - alpha_bar_next) / (1 - alpha_bar),
    )


def _spread(sampling: Sampling, alpha_bar: float, alpha_bar_next: float) -> float:
    """Standard deviation of the noise that a step adds.

    `large` is beta and `small` the posterior's variance, beta_tilde of equation 7 (Ho et al. 2020, section 3.2).
    """
    if sampling.sampler == "ddim":
        return 0.0
    beta = 1 - alpha_bar / alpha_bar_next
    variance = beta if sampling.variance == "large" else beta * (1 - alpha_bar_next) / (1 - alpha_bar)
    return float(variance**0.5)


def predict_next(
    schedule: DiscreteSchedule, x: Tensor, noise: Tensor, level: int, level_next: int | None, sampling: Sampling
) -> tuple[Tensor, float]:
    """Mean and standard deviation of x at the next level, given the predicted noise.

    Differs: the x0-prediction may be clipped, which is in the code of Ho et al. 2020 and not in their equation 11.

    Args:
        schedule: on the CPU.
        x: x_t at `level`, [B, C, H, W].
        noise: predicted, in the shape of x.
        level_next: that the step leads to; None: the image itself, without noise.
    """
    alpha_bar = schedule.alphas_bar[level].item()
    alpha_bar_next = 1.0 if level_next is None else schedule.alphas_bar[level_next].item()
    of_x0, of_x = _weigh(sampling.sampler, alpha_bar, alpha_bar_next)
    if sampling.clip:
        mean = of_x0 * predict_x0(schedule(level), x, noise).clamp(-1, 1) + of_x * x
    else:  # the same, rearranged: dividing by a small alpha_bar and multiplying by it again would lose digits
        ratio = of_x0 / alpha_bar**0.5
        mean = (of_x + ratio) * x - ratio * (1 - alpha_bar) ** 0.5 * noise
    return mean, _spread(sampling, alpha_bar, alpha_bar_next)


@torch.no_grad()
def sample_images(
    denoiser: Denoiser,
    schedule: DiscreteSchedule,
    sampling: Sampling,
    draw: Draw,
    callback: Callback = lambda *_: None,
    output: Output = NOISE,
) -> Tensor:
    """Images [B, C, H, W], roughly in [-1, 1], from pure noise.

    A step is exact between the levels visited, so with steps = levels the ancestral one is DDPM's (Ho et al. 2020,
    algorithm 2); the DDIM one is that of Song et al. 2021 with eta = 0. The mean of the last step is returned, without
    noise, as score_sde does.

    Args:
        schedule: on the CPU.
        output: what the denoiser's output stands for.
    """
    x = draw(0)
    visited = choose_levels(schedule.levels, sampling.steps)
    for index, (level, level_next) in enumerate(zip(visited, [*visited[1:], None], strict=True)):
        passed = torch.full((1,), level_input(level, schedule.levels, sampling.labels), device=x.device)
        path = schedule(level)
        noise = output.predict_noise(path, x, denoiser(output.scale_input(path, x), passed).float())
        callback(index, x, noise)
        x, spread = predict_next(schedule, x, noise, level, level_next, sampling)
        if spread > 0 and level_next is not None:
            x = x + spread * draw(index + 1)
    return x


def quantise_images(x: Tensor, quantisation: Literal["truncate", "round"]) -> Tensor:
    """Convert [-1, 1] to uint8 and clip. `truncate` is as in score_sde, and half a grey level too dark on average."""
    scaled = ((x + 1) / 2 * 255).clamp(0, 255)
    return (scaled.round() if quantisation == "round" else scaled).to(torch.uint8)
