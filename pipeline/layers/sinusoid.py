"""The sinusoidal embedding of a noise level."""

import math

import torch
from torch import Tensor


def embed_sinusoidally(label: Tensor, dim: int) -> Tensor:
    """[B] labels on the scale of levels to [B, dim]: sines, then cosines, wavelengths from 2 pi to 2 pi 10^4."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, device=label.device) * (-math.log(10_000) / (half - 1)))
    angles = label.to(torch.promote_types(label.dtype, torch.float32))[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)
