"""Sampling from a discrete diffusion model."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pipeline.diffusion.loss import Denoiser
from pipeline.diffusion.schedule import Schedule
from pipeline.schema.diffusion import Sampling

Draw = Callable[[int], Tensor]
"""Standard normal noise [B, C, H, W] by number: 0 is where sampling starts, k what is added after step k."""
Watch = Callable[[int, Tensor, Tensor], object]
"""Told before each step: how many were taken, x [B, C, H, W], and the noise that the network sees in it."""


def choose_levels(levels: int, steps: int) -> list[int]:
    """Levels to visit, most noisy first, evenly spaced; with one step the most noisy one alone."""
    return torch.linspace(levels - 1, 0, steps, dtype=torch.float64).round().long().tolist()


def label_level(level: int, levels: int, labels: Literal["fractional", "integer"]) -> float:
    """What the network is told. `fractional`: (levels - 1) t, where t falls from 1 to 1e-3 in `levels` values."""
    if labels == "integer":
        return float(level)
    return (levels - 1) * (1e-3 + (1 - 1e-3) * level / (levels - 1))


def _weigh(sampler: Literal["ancestral", "ddim"], alpha_bar: float, alpha_bar_next: float) -> tuple[float, float]:
    """Weights of the foreseen image and of x in the next mean."""
    if sampler == "ddim":  # Song et al. 2021, equation 12 with sigma = 0, its noise written as x and the image
        ratio = ((1 - alpha_bar_next) / (1 - alpha_bar)) ** 0.5
        return alpha_bar_next**0.5 - ratio * alpha_bar**0.5, ratio
    alpha = alpha_bar / alpha_bar_next  # Ho et al. 2020, equation 7
    return (
        alpha_bar_next**0.5 * (1 - alpha) / (1 - alpha_bar),
        alpha**0.5 * (1 - alpha_bar_next) / (1 - alpha_bar),
    )


def _spread(sampling: Sampling, alpha_bar: float, alpha_bar_next: float) -> float:
    """Standard deviation of the noise that a step adds."""
    if sampling.sampler == "ddim":
        return 0.0
    beta = 1 - alpha_bar / alpha_bar_next
    variance = beta if sampling.variance == "large" else beta * (1 - alpha_bar_next) / (1 - alpha_bar)
    return float(variance**0.5)


def foresee_image(x: Tensor, noise: Tensor, alpha_bar: float) -> Tensor:
    """The image of which x is a noisy version, if the noise in x is this one; not clipped."""
    image: Tensor = (x - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5
    return image


def predict_next(
    x: Tensor, noise: Tensor, alpha_bar: float, alpha_bar_next: float, sampling: Sampling
) -> tuple[Tensor, float]:
    """Mean and standard deviation of x at the next level, given the noise that the network sees in it.

    Args:
        x: [B, C, H, W] at the level of `alpha_bar`.
        alpha_bar_next: of the level that the step leads to; 1 for the image itself.
    """
    of_image, of_x = _weigh(sampling.sampler, alpha_bar, alpha_bar_next)
    if sampling.clip:
        mean = of_image * foresee_image(x, noise, alpha_bar).clamp(-1, 1) + of_x * x
    else:  # the same, rearranged: dividing by a small alpha_bar and multiplying by it again would lose digits
        ratio = of_image / alpha_bar**0.5
        mean = (of_x + ratio) * x - ratio * (1 - alpha_bar) ** 0.5 * noise
    return mean, _spread(sampling, alpha_bar, alpha_bar_next)


@torch.no_grad()
def sample_images(
    denoiser: Denoiser, schedule: Schedule, sampling: Sampling, draw: Draw, watch: Watch = lambda *_: None
) -> Tensor:
    """Images [B, C, H, W], roughly in [-1, 1], from pure noise; `sampling.clip` clips what each step foresees.

    A step is exact between the levels visited, so with steps = levels the ancestral one is DDPM's (Ho et al. 2020,
    algorithm 2). The mean of the last step is returned, without noise, as score_sde does.

    Args:
        schedule: on the CPU.
    """
    x = draw(0)
    visited = choose_levels(schedule.levels, sampling.steps)
    alphas_bar = [schedule.alphas_bar[level].item() for level in visited] + [1.0]
    for index, level in enumerate(visited):
        label = torch.full((1,), label_level(level, schedule.levels, sampling.labels), device=x.device)
        noise = denoiser(x, label).float()
        watch(index, x, noise)
        x, spread = predict_next(x, noise, alphas_bar[index], alphas_bar[index + 1], sampling)
        if spread > 0 and index < len(visited) - 1:
            x = x + spread * draw(index + 1)
    return x


def quantise_images(x: Tensor, quantisation: Literal["truncate", "round"]) -> Tensor:
    """[-1, 1] to uint8; values outside are clipped. `truncate` is score_sde's and half a grey level too dark."""
    scaled = ((x + 1) / 2 * 255).clamp(0, 255)
    return (scaled.round() if quantisation == "round" else scaled).to(torch.uint8)
