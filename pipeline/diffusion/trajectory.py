"""What a few images look like on their way from noise, and what the network foresees on it."""

import torch
from torch import Tensor

from pipeline.diffusion.sample import choose_levels, foresee_image, quantise_images
from pipeline.diffusion.schedule import Schedule
from pipeline.schema.diffusion import Sampling

IMAGES = 4
"""Ours: the first images of a set, two rows each, are no taller than a window."""
MOMENTS = 10
"""Ours: at 40 pixels an image they are as wide as half a page, so that two models stand side by side."""
END = -1
"""The level of an image without noise; 0 is the least noisy that a network sees."""


def choose_moments(steps: int) -> list[int]:
    """Numbers of steps taken, from none to all, evenly spaced: MOMENTS of them, or every one where there are fewer."""
    return sorted({round(index * steps / (MOMENTS - 1)) for index in range(MOMENTS)})


class Trajectory:
    """Keeps a batch's first images, as they are at some moments of its sampling and as the network foresees them there.

    It only looks: the batch is sampled as without it.
    """

    def __init__(self, schedule: Schedule, sampling: Sampling) -> None:
        self.schedule, self.quantisation = schedule, sampling.quantisation
        self.visited = choose_levels(schedule.levels, sampling.steps)
        self.moments = choose_moments(sampling.steps)
        self.levels: list[int] = []
        self.x: list[Tensor] = []
        self.foreseen: list[Tensor] = []

    def watch(self, step: int, x: Tensor, noise: Tensor) -> None:
        """Keep this moment if it is one of those chosen; `sample_images` calls it before each step."""
        if step in self.moments:
            level, x = self.visited[step], x[:IMAGES]
            alpha_bar = self.schedule.alphas_bar[level].item()
            self._keep(level, x, foresee_image(x, noise[:IMAGES], alpha_bar))

    def finish(self, x: Tensor) -> None:
        """Keep the end: images without noise, in which the image foreseen is the image itself."""
        self._keep(END, x[:IMAGES], x[:IMAGES])

    def _keep(self, level: int, x: Tensor, image: Tensor) -> None:
        self.levels.append(level)
        self.x.append(quantise_images(x, self.quantisation).cpu())
        self.foreseen.append(quantise_images(image, self.quantisation).cpu())

    def stack(self) -> dict[str, Tensor]:
        """`x` and `foreseen` [moments, images, C, H, W] uint8, and `levels` [moments] int64, the last of them END."""
        x, foreseen = (torch.stack(kept).contiguous() for kept in (self.x, self.foreseen))
        return {"x": x, "foreseen": foreseen, "levels": torch.tensor(self.levels)}
