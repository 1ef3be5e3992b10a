"""Sampling trajectories of a few images: x_t and the x0-prediction at some moments."""

import torch
from torch import Tensor

from pipeline.diffusion.path import predict_x0
from pipeline.diffusion.sample import choose_levels, quantise_images
from pipeline.diffusion.schedule import DiscreteSchedule
from pipeline.schema.diffusion import Sampling

IMAGES = 4
"""Number of images. Two rows each still fit into a window (our choice)."""
MOMENTS = 10
"""Number of moments. At 40 pixels per image, two trajectories fit side by side on a page (our choice)."""
END = -1
"""Stands for the level of the final image, without noise; level 0 is the least noisy one."""


def choose_moments(steps: int) -> list[int]:
    """Moments as numbers of steps taken, evenly spaced from 0 to `steps`; at most MOMENTS of them."""
    return sorted({round(index * steps / (MOMENTS - 1)) for index in range(MOMENTS)})


class Trajectory:
    """Records x_t and the x0-prediction of a batch's first images while it is sampled.

    Recording does not change the samples.
    """

    def __init__(self, schedule: DiscreteSchedule, sampling: Sampling) -> None:
        self.schedule, self.quantisation = schedule, sampling.quantisation
        self.visited = choose_levels(schedule.levels, sampling.steps)
        self.moments = choose_moments(sampling.steps)
        self.levels: list[int] = []
        self.x: list[Tensor] = []
        self.x0: list[Tensor] = []

    def watch(self, step: int, x: Tensor, noise: Tensor) -> None:
        """Callback for `sample_images`: record this step if it is one of the moments."""
        if step in self.moments:
            level, x = self.visited[step], x[:IMAGES]
            self._keep(level, x, predict_x0(self.schedule(level), x, noise[:IMAGES]))

    def finish(self, x: Tensor) -> None:
        """Record the final images; each is its own x0-prediction."""
        self._keep(END, x[:IMAGES], x[:IMAGES])

    def _keep(self, level: int, x: Tensor, x0: Tensor) -> None:
        self.levels.append(level)
        self.x.append(quantise_images(x, self.quantisation).cpu())
        self.x0.append(quantise_images(x0, self.quantisation).cpu())

    def stack(self) -> dict[str, Tensor]:
        """`x` and `x0` [moments, images, C, H, W] uint8, and `levels` [moments] int64, the last of them END."""
        x, x0 = (torch.stack(kept).contiguous() for kept in (self.x, self.x0))
        return {"x": x, "x0": x0, "levels": torch.tensor(self.levels)}
