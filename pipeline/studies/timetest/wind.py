"""The tasks for ODE functions: digits that a wind carries; the wind is a known function of time."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TEST_IMAGES = 360
"""Images of the test split; the other 1437 are for training."""
SPEED = 4.0
"""Of the flow: dx/ds = SPEED v(s, x), so that a quarter of the time moves the images visibly."""


def load_images(image_size: int) -> tuple[Tensor, Tensor]:
    """Training and test split of scikit-learn's 1797 digits, [N, 1, H, W]; float64.

    Each image is less its own mean and divided by its own root mean square: the last norm of an ODE function fixes the
    size of its output. The split is the same for all runs.
    """
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images)[:, None]  # [1797, 1, 8, 8]
    if image_size != images.shape[-1]:
        images = functional.interpolate(images, image_size, mode="bilinear", align_corners=False)
    images = images - images.mean((1, 2, 3), keepdim=True)
    images = images / images.square().mean((1, 2, 3), keepdim=True).sqrt()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[TEST_IMAGES:]], images[order[:TEST_IMAGES]]


@dataclass(frozen=True)
class Wind:
    """The vector field v(t, x) = a(t) x D^T + b(t) D x on images x; D is a central difference, antisymmetric.

    `there_and_back`: a = cos(pi t): it blows sideways, turns at t = 1/2, and all is back at t = 1. `turning_wind`:
    a = cos(2 pi t), b = sin(2 pi t). `constant`: a = 1. At the border D takes 0 from outside, as convolutions with zero
    padding do, or goes around.
    """

    name: str
    circular: bool

    def difference(self, size: int) -> Tensor:
        """D [size, size], float64."""
        upper = torch.diag(torch.full((size - 1,), 0.5, dtype=torch.float64), 1)
        d = upper - upper.T
        if self.circular:
            d[0, -1], d[-1, 0] = -0.5, 0.5
        return d

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """v at times t [T] and images x [T, B, 1, H, W], or [1, B, ...] for the same images at all times."""
        d = self.difference(x.shape[-1]).to(x.dtype)
        a, b = (part.to(x.dtype)[:, None, None, None, None] for part in self._weigh(t))  # [T, 1, 1, 1, 1]
        return a * (x @ d.T) + b * (d @ x)

    def _weigh(self, t: Tensor) -> tuple[Tensor, Tensor]:
        if self.name == "there_and_back":
            return (math.pi * t).cos(), torch.zeros_like(t)
        if self.name == "turning_wind":
            return (2 * math.pi * t).cos(), (2 * math.pi * t).sin()
        return torch.ones_like(t), torch.zeros_like(t)

    def _integrate(self, start: float, end: float) -> tuple[float, float]:
        """The integrals of a and b."""
        if self.name == "there_and_back":
            return (math.sin(math.pi * end) - math.sin(math.pi * start)) / math.pi, 0.0
        if self.name == "turning_wind":
            turn = 2 * math.pi
            sines = math.sin(turn * end) - math.sin(turn * start)
            return sines / turn, (math.cos(turn * start) - math.cos(turn * end)) / turn
        return end - start, 0.0

    def flow(self, start: float, end: float, x: Tensor) -> Tensor:
        """The exact solution of dx/ds = SPEED v(s, x) from `start` to `end`, for images x [B, 1, H, W], float64.

        x D^T and D x commute, and D does not depend on time: x(end) = exp(B D) x exp(A D)^T, with the integrals A and B
        of SPEED a and SPEED b.
        """
        d = self.difference(x.shape[-1])
        a, b = self._integrate(start, end)
        return torch.matrix_exp(SPEED * b * d) @ x @ torch.matrix_exp(SPEED * a * d).T
