"""A template of networks of your own, as arms: `function=example:make_field` of node, `denoiser=example:make_denoiser`.

A factory gets the channels and the side of the images, where its signature has them, and returns a torch module that
maps [B, C, H, W] to the same shape. Its weights come from torch's global generator.
"""

import torch
from torch import Tensor, nn


class TimedField(nn.Module):
    """An ODE function f(t, x): two convolutions, the second with t as a further channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels + 1, channels, 3, padding=1)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The derivative at time t [] in [0, 1]."""
        h = torch.relu(self.conv1(self.norm(x)))
        out: Tensor = self.conv2(torch.cat([h, t * torch.ones_like(h[:, :1])], 1))
        return out


class TimedDenoiser(nn.Module):
    """Predicts the noise in x: convolutions, scaled and shifted by functions of the level."""

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.embed = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, 2 * width))
        self.conv_out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """The noise at levels [B], 0 to 999."""
        scale, shift = self.embed(level[:, None] / 999)[:, :, None, None].chunk(2, 1)
        out: Tensor = self.conv_out(torch.relu(self.conv_in(x) * (1 + scale) + shift))
        return out


def make_field(channels: int) -> nn.Module:
    """An ODE function for features of so many channels."""
    return TimedField(channels)


def make_denoiser(channels: int) -> nn.Module:
    """A denoiser for images of so many channels."""
    return TimedDenoiser(channels)
