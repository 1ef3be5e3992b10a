"""Gaussian paths from data to noise, x_t = alpha_t x_0 + sigma_t noise, and the formulas that hold on any of them.

Time runs from data to noise. A noise schedule is a function of time that returns a `GaussianPath`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class GaussianPath:
    """alpha, sigma and their time derivatives at some times; all of one shape: [B], or [] for one time."""

    alpha: Tensor
    """Factor of the data."""
    sigma: Tensor
    """Factor of the noise."""
    d_alpha: Tensor
    """d alpha / dt."""
    d_sigma: Tensor
    """d sigma / dt."""

    def log_snr(self) -> Tensor:
        """Log of the signal-to-noise ratio alpha^2 / sigma^2 (Kingma et al. 2021, section 3.1)."""
        return 2 * (self.alpha.log() - self.sigma.log())


Schedule = Callable[[Tensor], GaussianPath]
"""A noise schedule: times [B], or levels where it is discrete, to the path there."""


def preserve_variance(alpha: Tensor, sigma: Tensor, beta: Tensor) -> GaussianPath:
    """The variance-preserving path, alpha^2 + sigma^2 = 1, with noise rate beta.

    d alpha / dt = -beta alpha / 2 is the drift of the VP SDE (Song et al. 2021, score SDE, equation 11). d sigma / dt
    follows from the identity; it has no bound as sigma goes to 0.
    """
    return GaussianPath(alpha, sigma, -beta * alpha / 2, beta * alpha**2 / (2 * sigma))


def align_factors(values: Tensor, x: Tensor) -> Tensor:
    """Factors [B] as [B, 1, ..., 1], in x's dtype. A factor [] stays []; it may be on the CPU while x is on a GPU."""
    values = values.to(x.dtype)
    return values.view(-1, *[1] * (x.ndim - 1)) if values.ndim else values  # [B, 1, ..., 1]


def add_noise(path: GaussianPath, x: Tensor, noise: Tensor) -> Tensor:
    """x_t = alpha x + sigma noise (Ho et al. 2020, equation 4, where alpha^2 is alpha_bar).

    Args:
        path: at times [B] or [].
        x: data [B, ...].
        noise: standard normal, in the shape of x.
    """
    return align_factors(path.alpha, x) * x + align_factors(path.sigma, x) * noise


def predict_x0(path: GaussianPath, x: Tensor, noise: Tensor) -> Tensor:
    """x0-prediction from x_t and the predicted noise, not clipped: (x_t - sigma noise) / alpha.

    Ho et al. 2020, equation 15; Song et al. 2021, DDIM, equation 9. It inverts `add_noise`. Where alpha is small, so is
    the denominator: an error of the noise is a large one here.

    Args:
        path: at times [B] or [].
        x: x_t, [B, ...].
        noise: predicted, in the shape of x.
    """
    return (x - align_factors(path.sigma, x) * noise) / align_factors(path.alpha, x)
