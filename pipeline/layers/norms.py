"""Normalisation layers by name."""

from typing import Literal

from torch import nn

_EPS = 1e-5  # PyTorch's default, the NODE study's

NormName = Literal["group", "batch", "instance", "layer"]


def make_norm(
    norm: NormName, channels: int, size: int, groups: int, batch_statistics: Literal["batch", "running"] = "batch"
) -> nn.Module:
    """A normalisation of [B, C, H, W] with an affine map behind it.

    An offset per channel cancels exactly where each channel has statistics of its own (the paper's equation 5).

    Args:
        norm: `group`, over the channels of a group and the pixels of an image, with min(groups, channels) groups;
            `batch`, each channel over batch and pixels; `instance`, each channel over pixels; `layer`, over channels
            and pixels, with affine weights for each element in place of each channel.
        size: H = W, which `layer` needs for its weights.
        batch_statistics: of `batch` in evaluation: those of the batch at hand, as in the reference code of the paper's
            recipe, or averages kept in training, under which an offset does not cancel.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels, eps=_EPS, track_running_stats=batch_statistics == "running")
    if norm == "instance":
        return nn.GroupNorm(channels, channels, eps=_EPS)
    if norm == "layer":
        return nn.LayerNorm((channels, size, size), eps=_EPS)
    return nn.GroupNorm(min(groups, channels), channels, eps=_EPS)
