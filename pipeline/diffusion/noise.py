"""Noise that depends on (key, image, draw) alone: the same for any batch, device or order.

It uses Philox4x32-10, a counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
torch's own generators draw a whole batch from one stream, so an image's noise would depend on its neighbours.
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
    """High and low 32 bits of the 64-bit product. int64 wraps around, but all 64 bits are right."""
    product = words * factor
    return (product >> 32) & _MASK, product & _MASK


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Philox4x32-10: maps each counter of four 32-bit words to four random 32-bit words, all in int64."""
    a, b, c, d = counter
    for step in range(_ROUNDS):
        low, high = ((word + step * increment) & _MASK for word, increment in zip(key, _INCREMENTS, strict=True))
        (high_a, low_a), (high_c, low_c) = _multiply(_MULTIPLIERS[0], a), _multiply(_MULTIPLIERS[1], c)
        a, b, c, d = high_c ^ b ^ low, low_c, high_a ^ d ^ high, low_a
    return a, b, c, d


def draw_noise(key: int, images: Tensor, draw: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 noise [B, *shape], by the Box-Muller transform (Box and Muller 1958).

    Args:
        key: 64-bit key of the stream.
        images: numbers of the images [B], int64, each below 2^32; the noise is made on their device.
        draw: number of the draw for these images, below 2^32.
    """
    size = math.prod(shape)
    block = torch.arange(-(-size // 4), device=images.device)  # a block gives four numbers
    counter = (block[None, :], torch.full_like(block, draw)[None, :], images[:, None], torch.zeros_like(block)[None, :])
    whole = [word.expand(len(images), len(block)) for word in counter]  # 4 x [B, blocks]
    a, b, c, d = philox((whole[0], whole[1], whole[2], whole[3]), (key & _MASK, (key >> 32) & _MASK))
    normal = []
    for first, second in ((a, b), (c, d)):
        # + 1 avoids the logarithm of zero.
        radius = take_root(((first + 1).double() * 2**-32).float().log().mul(-2))
        angle = (second.double() * (2 * math.pi * 2**-32)).float()
        normal += [radius * angle.cos(), radius * angle.sin()]
    # Each block gives four numbers: [B, blocks, 4] to [B, 4 blocks], cut to [B, size].
    return torch.stack(normal, 2).flatten(1)[:, :size].reshape(len(images), *shape)
