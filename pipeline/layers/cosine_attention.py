"""Cosine attention: queries, keys and values of a fixed size, so that no logit can grow without end.

Source: Karras et al. 2024, EDM2 (arXiv 2312.02696), section 2.1 and appendix B.
"""

import math

from torch import Tensor

from pipeline.layers.magnitude import normalise


def attend(parts: Tensor, heads: int = 1) -> Tensor:
    """Self-attention over pixels, [B, 3C, H, W] to [B, C, H, W].

    Each query, key and value vector of a head gets a mean square of 1, so a logit q k / sqrt(C) is at most sqrt(C).

    Args:
        parts: queries, keys and values, one after the other along the channels.
        heads: divides C.
    """
    batch, channels, height, width = parts.shape
    split = parts.reshape(batch, 3, heads, channels // (3 * heads), height * width)  # [B, 3, heads, C, HW]
    query, key, value = normalise(split, (3,)).unbind(1)
    shares = (query.transpose(-2, -1) @ key / math.sqrt(query.shape[-2])).softmax(-1)  # [B, heads, HW, HW]
    return (value @ shares.transpose(-2, -1)).reshape(batch, channels // 3, height, width)
