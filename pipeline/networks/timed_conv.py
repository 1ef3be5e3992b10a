"""The ways in which time enters the convolutions of an ODE function."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn


class TimedConv2d(nn.Module):
    """A 3x3 convolution of [B, C, H, W] plus a timestep embedding: Z = W * X + v_t (+ t p).

    With `time="concat"` the input gets a channel that is t everywhere, before the others (ConcatConv), which makes
    v_t = t v with v constant over the interior (the paper's equation 4); with `time="mlp"`, v_t is
    Linear(1, C)-activation-Linear(C, C) of t. With `position="linear"`, p is a map [1, 1, H, W] shared by the
    channels (equation 6), drawn from a normal distribution as wide as the initial v (A4).
    """

    def __init__(
        self,
        channels: int,
        size: int,
        time: Literal["concat", "mlp"],
        position: Literal["none", "linear"],
        zero_bias: Literal["none", "conv", "time", "all"],
        activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.concat = time == "concat"
        self.conv = nn.Conv2d(channels + self.concat, channels, 3, padding=1)
        self.embed: nn.Sequential | None = None
        if time == "mlp":
            self.embed = nn.Sequential(nn.Linear(1, channels), activation(), nn.Linear(channels, channels))
        self.position: nn.Parameter | None = None
        if position == "linear":
            std_v = math.sqrt(3) / math.sqrt(9 * (channels + 1))
            self.position = nn.Parameter(torch.randn(1, 1, size, size) * std_v)
        if zero_bias in ("conv", "all"):
            zero_biases(self.conv)
        if zero_bias in ("time", "all") and self.embed is not None:
            zero_biases(self.embed)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        if self.concat:
            z: Tensor = self.conv(torch.cat([t.expand_as(x[:, :1]), x], 1))
        else:
            assert self.embed is not None
            z = self.conv(x) + self.embed(t.view(1, 1))[:, :, None, None]
        return z if self.position is None else z + t * self.position


def zero_biases(module: nn.Module) -> None:
    """Set every bias below a module to zero."""
    for part in module.modules():
        bias = getattr(part, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
