"""Data of which the posterior mean E[x_0 | x_t] is known: a mixture of two Gaussians, the Curie-Weiss model.

x_t = alpha x_0 + sigma noise. These stand where a network would, so that a schedule or a solver is judged by itself.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """p N(mu, s^2 I) + (1 - p) N(-mu, s^2 I) in d dimensions, with mu = (r, ..., r).

    Of x_t only its mean m over the coordinates moves under the flow in a way of its own; all that is orthogonal to mu
    is only scaled. So a `pair` (m, one orthogonal coordinate) is the whole system, for any d (Aranguri et al. 2025,
    arXiv 2501.00988, have the velocity; the reduction is derived from it).
    """

    dimension: int
    weight: float
    """p, of the mode at mu."""
    distance: float
    """r."""
    spread: float
    """s."""

    @property
    def tilt(self) -> float:
        """h = log(p / (1 - p)) / 2: what is known of the mode before x_t is seen."""
        return math.log(self.weight / (1 - self.weight)) / 2

    def weigh(self, alpha: Array, sigma: Array) -> tuple[Array, Array, Array]:
        """Of E[x_0 | x_t] = gain x_t + pull mu tanh(tilt + steepness m): gain, pull and steepness; elementwise."""
        variance = sigma**2 + (self.spread * alpha) ** 2
        steepness = alpha * self.distance * self.dimension / variance
        return self.spread**2 * alpha / variance, sigma**2 / variance, steepness

    def predict_x0(self, alpha: float, sigma: float, x: Array) -> Array:
        """The posterior mean [B, d] of x [B, d]."""
        gain, pull, steepness = self.weigh(np.asarray(alpha), np.asarray(sigma))
        side = np.tanh(self.tilt + steepness * x.mean(1, keepdims=True))
        posterior: Array = gain * x + pull * self.distance * side
        return posterior

    def predict_pair(self, alpha: float, sigma: float, pair: Array) -> Array:
        """The same of pairs [2, B]: the mean of the coordinates, and a coordinate orthogonal to mu."""
        gain, pull, steepness = self.weigh(np.asarray(alpha), np.asarray(sigma))
        predicted: Array = gain * pair
        predicted[0] += pull * self.distance * np.tanh(self.tilt + steepness * pair[0])
        return predicted


@dataclass(frozen=True)
class CurieWeiss:
    """d spins +-1 with P(x) ~ exp(beta S^2 / 2d + h S / d), S their sum; beta > 1, so that they take sides.

    As d grows it becomes a mixture of two product measures of means m* and -m*, where m* = tanh(beta m*). The posterior
    mean is that of this limit (Aranguri et al. 2025, arXiv 2501.00988, section on the Curie-Weiss model).
    """

    dimension: int
    beta: float
    field: float
    """h."""

    @cached_property
    def magnetisation(self) -> float:
        """m*, the positive root of m = tanh(beta m), by Newton's method from 1."""
        m = 1.0
        for _ in range(100):
            value = math.tanh(self.beta * m)
            m -= (m - value) / (1 - self.beta * (1 - value**2))
        return m

    @property
    def limit_weight(self) -> float:
        """Probability of the mode m* as d grows: e^{h m*} / 2 cosh(h m*)."""
        return 1 / (1 + math.exp(-2 * self.field * self.magnetisation))

    def find_law(self) -> tuple[Array, Array]:
        """S [d + 1] and its probabilities, exact at finite d."""
        d = self.dimension
        up = np.arange(d + 1, dtype=np.float64)
        total = 2 * up - d
        factorial = np.array([math.lgamma(count + 1) for count in range(d + 1)])
        log_p = -factorial - factorial[::-1] + self.beta * total**2 / (2 * d) + self.field * total / d
        p = np.exp(log_p - log_p.max())
        return total, p / p.sum()

    def find_weight(self) -> float:
        """P(S > 0), exact at finite d; half of P(S = 0) counts."""
        total, p = self.find_law()
        return float(p[total > 0].sum() + p[total == 0].sum() / 2)

    def predict_x0(self, alpha: float, sigma: float, x: Array) -> Array:
        """The posterior mean [B, d] of x [B, d], in the limit of large d."""
        m, side = self.magnetisation, np.tanh(alpha / sigma**2 * x)
        log_odds = 2 * self.field * m + np.log((1 + m * side) / (1 - m * side)).sum(1, keepdims=True)
        # P(+) (side + m) / (1 + m side) + P(-) (side - m) / (1 - m side), on one denominator
        square = side**2
        posterior: Array = (1 - m**2) * side + m * np.tanh(log_odds / 2) * (1 - square)
        posterior /= 1 - m**2 * square
        return posterior
