"""Noise that depends on (key, image, draw) alone: the same for any batch, device or order.

Philox4x32-10, a counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Torch's
own generators draw a whole batch from one stream, so that an image's noise depends on its neighbours.
"""

import math

import torch
from torch import Tensor

from pipeline.diffusion.schedule import take_root

_MASK = 0xFFFFFFFF
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_INCREMENTS = (0x9E3779B9, 0xBB67AE85)


def _multiply(factor: int, words: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of the 64-bit product; int64 wraps around, which leaves its bits right."""
    product = words * factor
    return (product >> 32) & _MASK, product & _MASK


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four words of 32 random bits, in int64, for each counter of four such words."""
    a, b, c, d = counter
    for step in range(_ROUNDS):
        low, high = ((word + step * increment) & _MASK for word, increment in zip(key, _INCREMENTS, strict=True))
        (high_a, low_a), (high_c, low_c) = _multiply(_MULTIPLIERS[0], a), _multiply(_MULTIPLIERS[1], c)
        a, b, c, d = high_c ^ b ^ low, low_c, high_a ^ d ^ high, low_a
    return a, b, c, d


def draw_noise(key: int, images: Tensor, draw: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 noise [B, *shape], by the transform of Box and Muller (1958).

    Args:
        key: 64 bits, the stream.
        images: numbers [B] of the images, int64, on the device where the noise is wanted; each below 2^32.
        draw: which draw for these images, below 2^32.
    """
    size = math.prod(shape)
    block = torch.arange(-(-size // 4), device=images.device)
    counter = (block[None, :], torch.full_like(block, draw)[None, :], images[:, None], torch.zeros_like(block)[None, :])
    whole = [word.expand(len(images), len(block)) for word in counter]  # 4 x [B, blocks]
    a, b, c, d = philox((whole[0], whole[1], whole[2], whole[3]), (key & _MASK, (key >> 32) & _MASK))
    normal = []
    for first, second in ((a, b), (c, d)):
        radius = take_root(((first + 1).double() * 2**-32).float().log().mul(-2))
        angle = (second.double() * (2 * math.pi * 2**-32)).float()
        normal += [radius * angle.cos(), radius * angle.sin()]
    # Four numbers a block: [B, blocks, 4] to [B, 4 blocks], and then the first of them.
    return torch.stack(normal, 2).flatten(1)[:, :size].reshape(len(images), *shape)
