"""What the noise level is worth: told and blind optima of the noise prediction for Gaussian data, in float64.

x_t = alpha_t x_0 + sigma_t noise, x_0 ~ N(m, C). In the eigenvectors of C, with eigenvalues lambda_i, the x_i are
independent, of mean alpha m_i and variance v_i = alpha^2 lambda_i + sigma^2. The optima are posterior means of the
noise: told the level, E[noise_i | x, t] = sigma (x_i - alpha m_i) / v_i; blind, the mean of that over p(t | x). Their
gap E |blind - told|^2 is the mean over x of the told optimum's variance over p(t | x), a sum over all levels. So only x
is drawn, not t given x.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.compute.seeding import make_generator
from pipeline.diffusion.schedule import make_schedule
from pipeline.schema.diffusion import Diffusion
from pipeline.studies.worth.study import Data, WorthRecord, WorthRun

Array = NDArray[np.float64]
Levels = NDArray[np.int64]
_PIXEL_VARIANCE = 0.25
"""Of the natural spectrum: images in [-1, 1] have about this one."""
_BATCH = 250
"""Noisy images at a time."""


def make_spectrum(data: Data) -> tuple[Array, Array]:
    """Means and variances [d] of the data in the eigenvectors of its covariance, d = colours x size x size.

    natural: the variance falls as 1/f^2 (Field 1987), f in cycles an image; the mean of the image, f = 0, has that of
    f^2 = 1/2.
    """
    mean = np.zeros(data.size**2)
    if data.spectrum == "white":
        variance = np.ones(data.size**2)
    elif data.spectrum == "natural":
        cycles = np.fft.fftfreq(data.size) * data.size
        squared = (cycles[:, None] ** 2 + cycles**2).ravel()
        variance = 1 / np.maximum(squared, 0.5)
        variance *= _PIXEL_VARIANCE / variance.mean()
    else:
        mean, variance = _read_digits()
    mean, variance = data.blend * mean, data.blend * variance + (1 - data.blend)
    return np.tile(mean, data.colours), np.tile(variance, data.colours)


def _read_digits() -> tuple[Array, Array]:
    """Means and variances [64] of scikit-learn's 1,797 digits in [-1, 1]."""
    from sklearn.datasets import load_digits

    pixels = load_digits().data / 8 - 1  # grey levels 0..16
    variance, vectors = np.linalg.eigh(np.cov(pixels.T, bias=True))
    return pixels.mean(0) @ vectors, np.maximum(variance, 0.0)  # rounding leaves some below 0


class Optima:
    """Told and blind optimum of Gaussian data under a schedule, with every level as likely as any other."""

    def __init__(self, data: Data, diffusion: Diffusion) -> None:
        path = make_schedule(diffusion)(torch.arange(diffusion.levels))
        alpha, self.sigma = path.alpha.numpy(), path.sigma.numpy()
        mean, variance = make_spectrum(data)
        self.centre = alpha[:, None] * mean
        """Mean of x_t, [levels, d]."""
        self.variance = alpha[:, None] ** 2 * variance + self.sigma[:, None] ** 2
        """Of x_t, [levels, d]."""
        self.weight = self.sigma[:, None] / self.variance
        """Of the told optimum, weight (x - centre), [levels, d]."""
        self._log_scale = np.log(self.variance).sum(1)
        self._distance = _Squares(1 / self.variance, self.centre)
        self._energy = _Squares(self.weight**2, self.centre)

    def predict_told(self, x: Array, level: Levels) -> Array:
        """The told optimum [B, d] of x [B, d] at levels [B]."""
        told: Array = self.weight[level] * (x - self.centre[level])
        return told

    def weigh_levels(self, x: Array) -> Array:
        """p(level | x) [B, levels] of x [B, d]."""
        log_p = -(self._distance.sum(x) + self._log_scale) / 2
        p: Array = np.exp(log_p - log_p.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return p

    def predict_blind(self, x: Array, p: Array) -> Array:
        """The blind optimum [B, d]: the told one's mean over levels of weights p [B, levels]."""
        blind: Array = x * (p @ self.weight) - p @ (self.weight * self.centre)
        return blind

    def find_gap(self, x: Array, p: Array) -> Array:
        """The variance of the told optimum over levels of weights p, mean over pixels, [B]."""
        energy = (p * self._energy.sum(x)).sum(1)
        gap: Array = (energy - (self.predict_blind(x, p) ** 2).sum(1)) / x.shape[1]
        return gap


class _Squares:
    """sum_i factor_i (x_i - centre_i)^2 at each level, written out so that it is products of matrices."""

    def __init__(self, factor: Array, centre: Array) -> None:
        self._square, self._rest = factor.T.copy(), (factor * centre**2).sum(1)
        self._linear = (-2 * factor * centre).T.copy() if centre.any() else None  # half of the work where it is 0

    def sum(self, x: Array) -> Array:
        """The sums [B, levels] of x [B, d]."""
        squares: Array = (x * x) @ self._square + self._rest
        return squares if self._linear is None else squares + x @ self._linear


def draw_levels(seed: int, samples: int, levels: int) -> Levels:
    """Levels [samples] in order, one from each of so many equal strata."""
    u = torch.rand(samples, generator=make_generator("cpu", seed, "level"), dtype=torch.float64).numpy()
    drawn: Levels = np.minimum((np.arange(samples) + u) * levels / samples, levels - 1).astype(np.int64)
    return drawn


def _find_error(values: Array) -> float:
    """Standard error of the mean of values from neighbouring strata, by their successive differences."""
    return float(np.sqrt((np.diff(values) ** 2).mean() / 2 / len(values)))


def measure_worth(run: WorthRun, batch: int = _BATCH) -> WorthRecord:
    """Losses of both optima, and how far a noisy image tells its level.

    Args:
        batch: noisy images at a time; no number depends on it, but for rounding.
    """
    data, levels = run.data, run.diffusion.levels
    optima, t = Optima(data, run.diffusion), np.arange(1, levels + 1) / levels
    drawn, generator = draw_levels(run.seed, data.samples, levels), make_generator("cpu", run.seed, "noise")
    noise = torch.randn(data.samples, optima.centre.shape[1], generator=generator, dtype=torch.float64).numpy()
    gaps, spreads = [], []
    for start in range(0, data.samples, batch):
        level = drawn[start : start + batch]
        x = optima.centre[level] + np.sqrt(optima.variance[level]) * noise[start : start + batch]
        p = optima.weigh_levels(x)
        gaps.append(optima.find_gap(x, p))
        spreads.append(np.sqrt(np.maximum(p @ t**2 - (p @ t) ** 2, 0.0)))
    told = float((1 - optima.sigma[:, None] * optima.weight).mean())
    values = np.concatenate(gaps)
    gap, error = float(values.mean()), _find_error(values)
    white = data.spectrum == "white" or data.blend == 0
    return WorthRecord(
        told=told,
        blind=told + gap,
        gap=gap,
        gap_stderr=error,
        gap_exact=float(optima.sigma.var()) if white else None,
        share=100 * gap / (told + gap),
        share_stderr=100 * told / (told + gap) ** 2 * error,
        level_sd=float(np.concatenate(spreads).mean()),
    )
