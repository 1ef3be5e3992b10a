"""Measures DDPM's loss on the test split, told the right level and wrong ones: what a U-Net makes of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.compute.seeding import derive_seed, make_generator
from pipeline.diffusion.noise import draw_noise
from pipeline.diffusion.output import NOISE, Output
from pipeline.diffusion.path import Schedule, add_noise
from pipeline.studies.ddpm.denoiser import DdpmDenoiser

_LEVELS = 20
_SEED = 0  # of noise and shuffle: the same for all runs, so that arms and seeds are compared on the same noisy images


@dataclass(frozen=True)
class NoiseLosses:
    """Mean squared errors of the predicted noise at each true level; see `measure_noise_losses`."""

    levels: list[int]
    right: list[float]
    shuffled: list[float]
    mean_level: list[float]


def choose_levels(levels: int) -> list[int]:
    """The midpoints of 20 equal parts of 0 to levels - 1, rounded."""
    return [round((part + 0.5) / _LEVELS * (levels - 1)) for part in range(_LEVELS)]


def shuffle_levels(images: int, levels: Tensor) -> Tensor:
    """Wrong levels [20, images]: those of all pairs of level and image, in one fixed random order."""
    generator = make_generator("cpu", _SEED, "shuffled levels")
    return levels.repeat_interleave(images)[torch.randperm(_LEVELS * images, generator=generator)].view(_LEVELS, images)


def draw_batches(x: Tensor, batch_size: int, draw: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of x [N, C, H, W] and the noise in them, fixed for an image's number and a draw."""
    key = derive_seed(_SEED, "test noise")
    for numbers in torch.arange(len(x), device=x.device).split(batch_size):
        yield x[numbers], draw_noise(key, numbers, draw, tuple(x.shape[1:]))


@torch.no_grad()
def measure_noise_losses(
    network: DdpmDenoiser, schedule: Schedule, x: Tensor, batch_size: int, output: Output = NOISE
) -> NoiseLosses:
    """Measure the loss of Ho et al. 2020, equation 14, on images x [N, C, H, W] in [-1, 1] at 20 levels.

    A batch shares its true level. Told are: the right level; a level of the others, shuffled over all pairs of level
    and image; the mean of the 20 levels. Noise and shuffle are the same for every network. What the output stands for
    is always that of the true level.
    """
    levels = choose_levels(network.levels)
    known = torch.tensor(levels, dtype=torch.float32)
    wrong = shuffle_levels(len(x), known).to(x.device)
    found = torch.zeros(3, _LEVELS, dtype=torch.float64, device=x.device)
    for index, level in enumerate(levels):
        right = torch.tensor([level], device=x.device)
        path = schedule(right)
        told = wrong[index].split(batch_size)
        for (clean, noise), shuffled in zip(draw_batches(x, batch_size, index), told, strict=True):
            noisy = add_noise(path, clean, noise)
            seen = output.scale_input(path, noisy)
            for kind, label in enumerate((right.float(), shuffled, known.mean().to(x.device).view(1))):
                predicted = output.predict_noise(path, noisy, network(seen, label).float())
                found[kind, index] += (predicted - noise).double().square().sum()
    return NoiseLosses(levels, *(found / x.numel()).tolist())
