"""Operations that preserve magnitudes: inputs of mean square 1 that are not correlated give an output of mean square 1.

Source: Karras et al. 2024, EDM2 (arXiv 2312.02696), appendix B; equation numbers below are that paper's. Written from
the formulas.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-4
"""Added to the root mean square by which `normalise` divides; EDM2's."""
_SILU_RMS = 0.596
"""Root mean square of silu(x) of x standard normal (equation 81)."""


def find_rms(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Root mean square over dimensions, which are kept with length 1."""
    # vector_norm and not sqrt: on a CPU, torch takes MKL's sqrt, whose last bit depends on the CPU.
    norm: Tensor = torch.linalg.vector_norm(x, dim=dims, keepdim=True)
    return norm / math.sqrt(math.prod(x.shape[dim] for dim in dims))


def normalise(x: Tensor, dims: tuple[int, ...], eps: float = EPS) -> Tensor:
    """x / (eps + its root mean square over dimensions)."""
    return x / (eps + find_rms(x, dims))


def normalise_pixels(x: Tensor) -> Tensor:
    """Pixel norm: the channels of each pixel of [B, C, H, W] get a mean square of 1."""
    return normalise(x, (1,))


def mp_silu(x: Tensor) -> Tensor:
    """SiLU over its root mean square for standard normal x (equation 81)."""
    return functional.silu(x) / _SILU_RMS


def mp_sum(a: Tensor, b: Tensor, share: float = 0.5) -> Tensor:
    """((1 - t) a + t b) / sqrt((1 - t)^2 + t^2) (equation 88).

    Args:
        share: t, that of b; 0.3 in residual connections.
    """
    return ((1 - share) * a + share * b) / math.hypot(1 - share, share)


def mp_cat(a: Tensor, b: Tensor, share: float = 0.5) -> Tensor:
    """a [B, Na, ...] and b [B, Nb, ...] side by side, weighed so that they contribute (1 - t)^2 to t^2 (equation 103).

    Args:
        share: t.
    """
    count_a, count_b = a.shape[1], b.shape[1]
    whole = math.sqrt(count_a + count_b) / math.hypot(1 - share, share)
    return torch.cat([a * (whole * (1 - share) / math.sqrt(count_a)), b * (whole * share / math.sqrt(count_b))], 1)


class MpFourier(nn.Module):
    """Fourier features of labels, [B] to [B, C]: sqrt(2) cos(2 pi (f label + phase)) (equation 75).

    f ~ N(0, 1) and phase ~ U(0, 1) are drawn from torch's global generator and never trained.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(channels))
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels))

    def forward(self, label: Tensor) -> Tensor:
        return math.sqrt(2) * (label[:, None] * self.frequencies + self.phases).cos()
