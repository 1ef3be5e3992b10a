"""Measures how much a U-Net's blocks depend on the level: the quantity that vanishes by the paper's Equation 5."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.studies.ddpm.unet import UNet

_POINTS = 4
"""Number of levels compared with level 0; evenly spaced, up to the last one."""


@dataclass(frozen=True)
class LevelAwareness:
    """Relative changes and shares of variance; see `measure_level_awareness`. None: a divisor is zero."""

    levels: list[int]
    block_change: list[list[float | None]]
    block_share: list[float | None]


def _divide(part: Tensor, whole: Tensor) -> float | None:
    ratio = (part / whole).item()
    return ratio if math.isfinite(ratio) else None


@torch.no_grad()
def measure_level_awareness(network: UNet, x: Tensor, level: int) -> LevelAwareness:
    """Measure how much the norm after each block's site depends on the level that the block is told.

    The network runs once on x [B, C, H, W], noisy images at `level`, to get each block's input. With that input fixed,
    the norm's output n is computed for several levels. change: ||n(level) - n(0)|| / ||n(0)||. share: the variance of n
    over these levels at fixed image, channel and pixel, averaged, divided by the total variance of n.
    """
    kept: list[Tensor] = []
    blocks = network.list_blocks()
    hooks = [block.register_forward_pre_hook(lambda _, given: kept.append(given[0])) for block in blocks]
    try:
        network(x, torch.full((len(x),), float(level), dtype=x.dtype, device=x.device))
    finally:
        for hook in hooks:
            hook.remove()
    levels = [round(point * (network.levels - 1) / _POINTS) for point in range(_POINTS + 1)]
    inputs = [network.make_inputs(torch.tensor([float(value)], dtype=x.dtype, device=x.device)) for value in levels]
    maps = [network.make_shared_maps(each) for each in inputs]
    changes, shares = [], []
    for block, h in zip(blocks, kept, strict=True):
        # What follows the block's input up to the site; only the embedding varies with the level.
        z = block.conv1(functional.silu(block.norm1(h)))
        told = zip(inputs, maps, strict=True)
        n = torch.stack([block.norm2(z + block.embed(each, shared.get(block.size))) for each, shared in told])
        changes.append([_divide((value - n[0]).norm(), n[0].norm()) for value in n[1:]])
        shares.append(_divide(n.var(0, correction=0).mean(), n.var(correction=0)))
    return LevelAwareness(levels[1:], changes, shares)
