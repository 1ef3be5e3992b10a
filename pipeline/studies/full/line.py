"""A mixture of two Gaussians on the line: what is known of it exactly, by formulas and quadrature in float64."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from pipeline.diffusion.targets import Mixture
from pipeline.studies.full.study import Target

Array = NDArray[np.float64]
_Z = np.linspace(-9, 9, 3601)
"""Standard deviations from a mode's centre where integrands are summed: the trapezoidal rule, of spectral accuracy."""
_DENSITY = np.exp(-(_Z**2) / 2) * (_Z[1] - _Z[0]) / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Line:
    """The data of the study: x0 on the line, x_t = alpha x0 + sigma noise with alpha^2 + sigma^2 = 1."""

    target: Target

    @cached_property
    def mixture(self) -> Mixture:
        """The same as a target of any dimension, which has the posterior's weights."""
        return Mixture(1, self.target.share, self.target.distance, self.target.width)

    @property
    def variance(self) -> float:
        """Of the data."""
        share, distance = self.target.share, self.target.distance
        return 4 * share * (1 - share) * distance**2 + self.target.width**2

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Data [size], float64."""
        side = torch.rand(size, dtype=torch.float64, generator=generator) < self.target.share
        noise = torch.randn(size, dtype=torch.float64, generator=generator)
        return torch.where(side, 1.0, -1.0) * self.target.distance + self.target.width * noise

    def predict_f(self, alpha: Array, sigma: Array, x: Array) -> Array:
        """f = (alpha x - E[x0 | x]) / sigma^2, in a form without division by sigma; elementwise."""
        width = self.target.width
        _, _, steepness = self.mixture.weigh(alpha, sigma)
        side = np.tanh(self.mixture.tilt + steepness * x)
        f: Array = (alpha * (1 - width**2) * x - self.target.distance * side) / (sigma**2 + (width * alpha) ** 2)
        return f

    def spread_nodes(self, alpha: float, sigma: float) -> tuple[Array, Array]:
        """Nodes and weights [2 nodes] of the mean over x_t; the weights sum up to 1."""
        scale = math.sqrt(sigma**2 + (self.target.width * alpha) ** 2)
        centre, share = alpha * self.target.distance, self.target.share
        x = np.concatenate([scale * _Z + centre, scale * _Z - centre])
        return x, np.concatenate([share * _DENSITY, (1 - share) * _DENSITY])

    def find_error(self, alpha: float, sigma: float) -> float:
        """Mean squared error of the best x0-prediction, over sigma^2: the same of v."""
        width, (x, weight) = self.target.width, self.spread_nodes(alpha, sigma)
        variance = sigma**2 + (width * alpha) ** 2
        _, pull, steepness = self.mixture.weigh(np.asarray(alpha), np.asarray(sigma))
        side = np.tanh(self.mixture.tilt + steepness * x)
        between = (float(pull) * self.target.distance / sigma) ** 2 * float(weight @ (1 - side**2))
        return width**2 / variance + between

    def find_square(self, alpha: float, sigma: float) -> float:
        """Mean square of f."""
        x, weight = self.spread_nodes(alpha, sigma)
        return float(weight @ self.predict_f(np.asarray(alpha), np.asarray(sigma), x) ** 2)

    def find_entropy(self) -> float | None:
        """Of the data, in nats; None: two atoms."""
        if self.target.width == 0:
            return None
        x, weight = self.spread_nodes(1.0, 0.0)
        return -float(weight @ np.log(self._find_density(x)))

    def _find_density(self, x: Array) -> Array:
        share, width, distance = self.target.share, self.target.width, self.target.distance
        right, left = (np.exp(-(((x - at) / width) ** 2) / 2) for at in (distance, -distance))
        density: Array = (share * right + (1 - share) * left) / (width * math.sqrt(2 * math.pi))
        return density

    def find_quantiles(self, size: int) -> Array:
        """The quantiles [size] of (i + 1/2) / size, by bisection."""
        share, width, distance = self.target.share, max(self.target.width, 1e-12), self.target.distance
        p = (np.arange(size) + 0.5) / size
        low, high = np.full(size, -distance - 9 * width), np.full(size, distance + 9 * width)
        for _ in range(60):
            middle = (low + high) / 2
            found = share * ndtr((middle - distance) / width) + (1 - share) * ndtr((middle + distance) / width)
            low, high = np.where(found < p, middle, low), np.where(found < p, high, middle)
        quantiles: Array = (low + high) / 2
        return quantiles
