"""Normalisation layers by name."""

from typing import Literal

from torch import nn

NormName = Literal["group", "batch", "instance", "layer"]


def make_norm(
    norm: NormName,
    channels: int,
    size: int,
    groups: int,
    batch_statistics: Literal["batch", "running"] = "batch",
    eps: float = 1e-5,
) -> nn.Module:
    """A normalisation layer for [B, C, H, W], with an affine map.

    Where each channel has its own mean and variance, an offset per channel cancels exactly (the paper's Equation 5).

    Args:
        norm: which values share mean and variance. `group`: the channels of a group and the pixels of an image, with
            min(groups, channels) groups. `batch`: one channel, over batch and pixels. `instance`: one channel of an
            image. `layer`: all channels and pixels of an image; its affine map has a weight per element, not per
            channel.
        size: H = W; `layer` needs it for its weights.
        batch_statistics: what `batch` uses in evaluation. `batch`: the statistics of the current batch, as in
            neural-ode-features. `running`: averages from training; an offset does not cancel under them.
        eps: added to the variance; PyTorch's default.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels, eps=eps, track_running_stats=batch_statistics == "running")
    if norm == "instance":  # as many groups as channels
        return nn.GroupNorm(channels, channels, eps=eps)
    if norm == "layer":
        return nn.LayerNorm((channels, size, size), eps=eps)
    # neural-ode-features limits the groups in the same way.
    return nn.GroupNorm(min(groups, channels), channels, eps=eps)
