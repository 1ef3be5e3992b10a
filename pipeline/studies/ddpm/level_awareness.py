"""How much the residual blocks of a U-Net depend on the level: the quantity that the paper says is lost."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.studies.ddpm.unet import UNet

_POINTS = 4
"""Levels compared with level 0, evenly spaced up to the last."""


@dataclass(frozen=True)
class LevelAwareness:
    """Relative changes and shares of variance; see `measure_level_awareness`. None: the divisor is zero."""

    levels: list[int]
    block_change: list[list[float | None]]
    block_share: list[float | None]


def _divide(part: Tensor, whole: Tensor) -> float | None:
    ratio = (part / whole).item()
    return ratio if math.isfinite(ratio) else None


@torch.no_grad()
def measure_level_awareness(network: UNet, x: Tensor, level: int) -> LevelAwareness:
    """Dependence of each block's second norm, the one after its site, on the level that the block is told.

    The network runs once on x [B, C, H, W], noisy images of the level given. Each block's input is kept, and what the
    block adds to its first convolution is then computed for level 0 and for others; n is the norm's output.
    change: ||n(level) - n(0)|| / ||n(0)||. share: the variance of n over these levels at fixed image, channel and
    pixel, averaged, over its whole variance.
    """
    kept: list[Tensor] = []
    blocks = network.list_blocks()
    hooks = [block.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0])) for block in blocks]
    try:
        network(x, torch.full((len(x),), float(level), dtype=x.dtype, device=x.device))
    finally:
        for hook in hooks:
            hook.remove()
    levels = [round(point * (network.levels - 1) / _POINTS) for point in range(_POINTS + 1)]
    signals = [network.make_signals(torch.tensor([float(value)], dtype=x.dtype, device=x.device)) for value in levels]
    maps = [network.make_shared_maps(signal) for signal in signals]
    changes, shares = [], []
    for block, h in zip(blocks, kept, strict=True):
        z = block.conv1(functional.silu(block.norm1(h)))
        told = zip(signals, maps, strict=True)
        n = torch.stack([block.norm2(z + block.embed(signal, shared.get(block.size))) for signal, shared in told])
        changes.append([_divide((value - n[0]).norm(), n[0].norm()) for value in n[1:]])
        shares.append(_divide(n.var(0, correction=0).mean(), n.var(correction=0)))
    return LevelAwareness(levels[1:], changes, shares)
