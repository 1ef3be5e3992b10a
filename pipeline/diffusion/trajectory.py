"""A few images on their way from noise, with the x0-predictions there."""

import torch
from torch import Tensor

from pipeline.diffusion.path import predict_x0
from pipeline.diffusion.sample import choose_levels, quantise_images
from pipeline.diffusion.schedule import DiscreteSchedule
from pipeline.schema.diffusion import Sampling

IMAGES = 4
"""Ours: the first images of a set, two rows each, are no taller than a window."""
MOMENTS = 10
"""Ours: at 40 pixels an image they are as wide as half a page, so that two models stand side by side."""
END = -1
"""Stands for the level of an image without noise; 0 is the least noisy level that a network gets."""


def choose_moments(steps: int) -> list[int]:
    """Numbers of steps taken, from none to all, evenly spaced: MOMENTS of them, or every one where there are fewer."""
    return sorted({round(index * steps / (MOMENTS - 1)) for index in range(MOMENTS)})


class Trajectory:
    """Keeps x_t and the x0-prediction of a batch's first images at some moments of its sampling.

    It changes nothing: the batch is sampled as without it.
    """

    def __init__(self, schedule: DiscreteSchedule, sampling: Sampling) -> None:
        self.schedule, self.quantisation = schedule, sampling.quantisation
        self.visited = choose_levels(schedule.levels, sampling.steps)
        self.moments = choose_moments(sampling.steps)
        self.levels: list[int] = []
        self.x: list[Tensor] = []
        self.x0: list[Tensor] = []

    def watch(self, step: int, x: Tensor, noise: Tensor) -> None:
        """Keep this moment if it is one of those chosen: the callback of `sample_images`."""
        if step in self.moments:
            level, x = self.visited[step], x[:IMAGES]
            self._keep(level, x, predict_x0(self.schedule(level), x, noise[:IMAGES]))

    def finish(self, x: Tensor) -> None:
        """Keep the end: images without noise, each its own x0-prediction."""
        self._keep(END, x[:IMAGES], x[:IMAGES])

    def _keep(self, level: int, x: Tensor, x0: Tensor) -> None:
        self.levels.append(level)
        self.x.append(quantise_images(x, self.quantisation).cpu())
        self.x0.append(quantise_images(x0, self.quantisation).cpu())

    def stack(self) -> dict[str, Tensor]:
        """`x` and `x0` [moments, images, C, H, W] uint8, and `levels` [moments] int64, the last of them END."""
        x, x0 = (torch.stack(kept).contiguous() for kept in (self.x, self.x0))
        return {"x": x, "x0": x0, "levels": torch.tensor(self.levels)}
