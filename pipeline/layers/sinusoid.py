"""The sinusoidal embedding of a noise level or a time."""

import math

import torch
from torch import Tensor


def embed_sinusoidally(label: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding, [B] to [B, dim]: sines, then cosines, with wavelengths from 2 pi to 2 pi 10^4.

    Source: Vaswani et al. 2017, section 3.5, as in score_sde_pytorch's models/layers.py. Differs from the former: all
    sines come before all cosines, and the longest wavelength is reached exactly.

    Args:
        label: levels 0..999 or times, used as they are.
        dim: even, at least 4.
    """
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, device=label.device) * (-math.log(10_000) / (half - 1)))
    # At least float32: fewer digits would mix up neighbouring levels.
    angles = label.to(torch.promote_types(label.dtype, torch.float32))[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)
