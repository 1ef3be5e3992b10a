"""Ancestral sampling of a discrete diffusion model."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pipeline.diffusion.loss import Denoiser
from pipeline.diffusion.schedule import Schedule


def choose_levels(levels: int, steps: int) -> list[int]:
    """Levels to visit, most noisy first, evenly spaced; with one step the most noisy one alone."""
    return torch.linspace(levels - 1, 0, steps, dtype=torch.float64).round().long().tolist()


def label_level(level: int, levels: int, labels: Literal["fractional", "integer"]) -> float:
    """What the network is told. `fractional`: (levels - 1) t, where t falls from 1 to 1e-3 in `levels` values."""
    if labels == "integer":
        return float(level)
    return (levels - 1) * (1e-3 + (1 - 1e-3) * level / (levels - 1))


@torch.no_grad()
def sample_ancestral(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    steps: int,
    labels: Literal["fractional", "integer"],
    variance: Literal["large", "small"],
    generator: torch.Generator,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Denoise x [B, C, H, W] from pure noise to images, roughly in [-1, 1]; not clipped.

    Each step is the exact ancestral step between the levels visited, so with steps = levels it is DDPM's
    (Ho et al. 2020, algorithm 2), and the mean of the last step is returned, as score_sde does.

    Args:
        variance: of the noise added: `large` is beta between the two levels, `small` the posterior's.
        generator: on the device of x.
        on_step: called after every step.
    """
    visited = choose_levels(schedule.levels, steps)
    for index, level in enumerate(visited):
        alpha_bar = schedule.alphas_bar[level].item()
        last = index == len(visited) - 1
        alpha_bar_next = 1.0 if last else schedule.alphas_bar[visited[index + 1]].item()
        beta = 1 - alpha_bar / alpha_bar_next
        label = torch.full((len(x),), label_level(level, schedule.levels, labels), device=x.device)
        noise = denoiser(x, label).float()
        x = (x - beta / (1 - alpha_bar) ** 0.5 * noise) / (1 - beta) ** 0.5
        if not last:
            added = beta if variance == "large" else beta * (1 - alpha_bar_next) / (1 - alpha_bar)
            x = x + added**0.5 * torch.randn(x.shape, generator=generator, device=x.device)
        on_step()
    return x


def quantise_images(x: Tensor, quantisation: Literal["truncate", "round"]) -> Tensor:
    """[-1, 1] to uint8; values outside are clipped. `truncate` is score_sde's and half a grey level too dark."""
    scaled = ((x + 1) / 2 * 255).clamp(0, 255)
    return (scaled.round() if quantisation == "round" else scaled).to(torch.uint8)
