"""The U-Net of DDPM's size with EDM2's layers, which keep the magnitude of what passes through them.

Source: Karras et al. 2024, EDM2 (arXiv 2312.02696), config G, written from its formulas; widths, blocks and attention
are where the study's U-Net has them. No norm follows the place where the level enters, as a gain: nothing cancels it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.layers.cosine_attention import attend
from pipeline.layers.magnitude import mp_cat, mp_silu, mp_sum, normalise_pixels
from pipeline.layers.mp_conv import MpConv
from pipeline.layers.sinusoid import embed_sinusoidally
from pipeline.studies.ddpm.study import DdpmNetwork

_RESIDUAL = 0.3
"""Share of a branch in a residual sum."""


class MagnitudeBlock(nn.Module):
    """EDM2's residual block: [B, C_in, H, W] to [B, C_out, H, W], told the level by a factor on each channel.

    Args:
        encodes: the block is of the way down: it adapts channels and normalises pixels before its branch.
        attention: whether cosine attention follows.
    """

    def __init__(
        self, network: DdpmNetwork, channels_in: int, channels_out: int, *, encodes: bool, attention: bool
    ) -> None:
        super().__init__()
        self.encodes = encodes
        self.skip = MpConv(channels_in, channels_out, 1) if channels_in != channels_out else None
        self.conv0 = MpConv(channels_out if encodes else channels_in, channels_out, 3)
        told = network.time == "embedding"
        self.tell = MpConv(4 * network.channels, channels_out) if told else None
        self.gain = nn.Parameter(torch.zeros(())) if told else None
        self.dropout = nn.Dropout(network.dropout)
        self.conv1 = MpConv(channels_out, channels_out, 3)
        self.parts = MpConv(channels_out, 3 * channels_out, 1) if attention else None
        self.project = MpConv(channels_out, channels_out, 1) if attention else None

    def forward(self, x: Tensor, embedded: Tensor | None) -> Tensor:
        if self.encodes:
            x = normalise_pixels(x if self.skip is None else self.skip(x))
        y = self.conv0(mp_silu(x))
        if self.tell is not None and embedded is not None:
            y = y * (1 + self.tell(embedded, self.gain))[:, :, None, None]  # [B or 1, C, 1, 1]
        y = self.conv1(self.dropout(mp_silu(y)))
        if not self.encodes and self.skip is not None:
            x = self.skip(x)
        x = mp_sum(x, y, _RESIDUAL)
        if self.parts is not None and self.project is not None:
            x = mp_sum(x, self.project(attend(self.parts(x))), _RESIDUAL)
        return x


class MagnitudeUNet(nn.Module):
    """The network: (x [B, C, H, W], level [B] or, for all, [1], float) to an output like x. It has no bias.

    Initial weights are drawn from torch's global generator. At first the output is 0, by a gain of 0, and so it does
    not depend on the level. Differs: the features of the level are the study's sinusoid, scaled to a mean square of 1.

    Args:
        levels: number of noise levels.
    """

    def __init__(self, network: DdpmNetwork, image_channels: int, image_size: int, levels: int) -> None:
        super().__init__()
        self.channels, self.levels = network.channels, levels
        widths = [network.channels * multiplier for multiplier in network.channel_multipliers]
        attended = [image_size // 2**index in network.attention_sizes for index in range(len(widths))]
        self.embed = MpConv(network.channels, 4 * network.channels) if network.time == "embedding" else None
        self.conv_in = MpConv(image_channels + 1, network.channels, 3)  # a channel of ones in place of biases
        skips, h = [network.channels], network.channels

        def block(channels_in: int, width: int, *, encodes: bool, attention: bool) -> MagnitudeBlock:
            return MagnitudeBlock(network, channels_in, width, encodes=encodes, attention=attention)

        self.down = nn.ModuleList()
        for index, width in enumerate(widths):
            part = nn.ModuleList()
            for _ in range(network.blocks):
                part.append(block(h, width, encodes=True, attention=attended[index]))
                h = width
                skips.append(h)
            skips += [h] if index < len(widths) - 1 else []  # what is halved
            self.down.append(part)
        self.middle = nn.ModuleList([block(h, h, encodes=False, attention=attention) for attention in (True, False)])
        self.up = nn.ModuleList()
        for index in reversed(range(len(widths))):
            part = nn.ModuleList()
            for step in range(network.blocks + 1):
                attention = attended[index] and (step == network.blocks or network.up_attention == "each")
                part.append(block(h + skips.pop(), widths[index], encodes=False, attention=attention))
                h = widths[index]
            self.up.append(part)
        assert not skips
        self.conv_out, self.gain_out = MpConv(h, image_channels, 3), nn.Parameter(torch.zeros(()))
        self.register_buffer("image_channels", torch.zeros(image_channels))  # as long as an image has: for the sampler

    def _embed(self, level: Tensor) -> Tensor | None:
        """[B, 4 channels]; None: nothing is told."""
        if self.embed is None:
            return None
        features = math.sqrt(2) * embed_sinusoidally(level, self.channels)
        return mp_silu(self.embed(features))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        embedded = self._embed(level)
        h = self.conv_in(torch.cat([x, torch.ones_like(x[:, :1])], 1))
        skips = [h]
        for index, part in enumerate(self.down):
            assert isinstance(part, nn.ModuleList)
            if index:
                h = functional.avg_pool2d(h, 2)
                skips.append(h)
            for block in part:
                h = block(h, embedded)
                skips.append(h)
        for block in self.middle:
            h = block(h, embedded)
        for index, part in enumerate(self.up):
            assert isinstance(part, nn.ModuleList)
            h = functional.interpolate(h, scale_factor=2.0) if index else h
            for block in part:
                h = block(mp_cat(h, skips.pop()), embedded)
        out: Tensor = self.conv_out(h, self.gain_out)
        return out
