"""Normalisation layers by name."""

from typing import Literal

from torch import nn

_EPS = 1e-5  # PyTorch's default, the NODE's (facts 4.4)


def make_norm(norm: Literal["group", "batch"], channels: int, groups: int) -> nn.Module:
    """A normalisation of [B, C, H, W].

    Args:
        norm: `group`, with min(groups, channels) groups; or `batch`, with the statistics of the batch at hand in
            training and evaluation alike (A2): then an offset per channel cancels exactly (the paper's equation 5).
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels, eps=_EPS, track_running_stats=False)
    return nn.GroupNorm(min(groups, channels), channels, eps=_EPS)
