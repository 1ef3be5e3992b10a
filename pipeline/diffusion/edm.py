"""EDM's preconditioning and loss: noise levels sigma, x_t = x_0 + sigma noise.

Source: Karras et al. 2022, EDM (arXiv 2206.00364), table 1 and section 5; the learned weighting is EDM2's (Karras et
al. 2024, arXiv 2312.02696, equations 14 to 16 and 21).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.diffusion.schedule import take_root

DATA_SIGMA = 0.5
"""Standard deviation of the data that the coefficients are made for (sigma_data)."""
RawNetwork = Callable[[Tensor, Tensor], Tensor]
"""F: (inputs [B, ...] of variance 1, labels [B]) -> outputs, whose best values have variance 1."""


@dataclass(frozen=True)
class Preconditioning:
    """The coefficients at noise levels sigma [B, 1, 1, 1], or any shape: x_0-prediction = skip x + out F(in x)."""

    skip: Tensor
    out: Tensor
    into: Tensor
    """c_in: makes the input's variance 1."""


def precondition(sigma: Tensor) -> Preconditioning:
    """EDM's coefficients: the input and the target of F have variance 1, and out is as small as can be."""
    whole = sigma**2 + DATA_SIGMA**2
    root = take_root(whole)
    return Preconditioning(DATA_SIGMA**2 / whole, sigma * DATA_SIGMA / root, 1 / root)


def weigh_losses(network: RawNetwork, x: Tensor, log_sigma: Tensor, noise: Tensor) -> Tensor:
    """EDM's loss of each image, [B]: the mean square error of F over pixels.

    It equals the error of the x_0-prediction over c_out^2, EDM's weight. An F of 0 has a loss of about 1.

    Args:
        x: data [B, C, H, W], of standard deviation `DATA_SIGMA`.
        log_sigma: ln(sigma), [B].
        noise: standard normal, in the shape of x.
    """
    sigma = log_sigma.exp()[:, None, None, None]
    of = precondition(sigma)
    noisy = x + sigma * noise
    target = (x - of.skip * noisy) / of.out
    return (network(of.into * noisy, log_sigma / 4) - target).square().mean((1, 2, 3))


def learn_weights(losses: Tensor, uncertainty: Tensor) -> Tensor:
    """Mean of loss / exp(u) + u over images: at the best u = ln(mean loss) each noise level counts alike."""
    return (losses / uncertainty.exp() + uncertainty).mean()


def draw_log_sigma(count: int, mean: float, deviation: float, generator: torch.Generator) -> Tensor:
    """ln(sigma) ~ N(mean, deviation^2), [count] (EDM, section 5)."""
    return mean + deviation * torch.randn(count, generator=generator)
