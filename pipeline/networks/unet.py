"""The U-Net of DDPM as in score_sde_pytorch's ddpm (facts 3.2), with the paper's remedies as options."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.networks.sinusoid import embed_sinusoidally
from pipeline.schema.ddpm import DdpmNetwork

_EPS = 1e-6  # of every GroupNorm, score_sde's
_ZERO = 1e-10  # variance scale of layers that start at almost nothing, score_sde's
_NIN = 0.1  # variance scale of 1x1 convolutions, score_sde's

Branch = Literal["conv", "time"]


class _Layers:
    """Makes initialised layers: variance scaling (fan average, uniform), biases by branch (A19)."""

    def __init__(self, network: DdpmNetwork) -> None:
        self.network = network

    def _initialise(self, layer: nn.Conv2d | nn.Linear, branch: Branch, scale: float) -> None:
        fan_in = layer.weight[0].numel()
        fan_out = layer.weight[:, 0].numel()
        bound = math.sqrt(3 * scale / ((fan_in + fan_out) / 2))
        nn.init.uniform_(layer.weight, -bound, bound)
        assert layer.bias is not None
        if self.network.zero_bias in (branch, "all"):
            nn.init.zeros_(layer.bias)
        else:
            nn.init.uniform_(layer.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def conv(
        self, channels_in: int, channels_out: int, stride: int = 1, padding: int = 1, scale: float = 1
    ) -> nn.Conv2d:
        layer = nn.Conv2d(channels_in, channels_out, 3, stride, padding)
        self._initialise(layer, "conv", scale)
        return layer

    def pointwise(self, channels_in: int, channels_out: int, scale: float = _NIN) -> nn.Conv2d:
        layer = nn.Conv2d(channels_in, channels_out, 1)
        self._initialise(layer, "conv", scale)
        return layer

    def linear(self, features_in: int, features_out: int) -> nn.Linear:
        layer = nn.Linear(features_in, features_out)
        self._initialise(layer, "time", 1)
        return layer

    def norm(self, channels: int) -> nn.GroupNorm:
        return nn.GroupNorm(self.network.groups, channels, eps=_EPS)


class ResidualBlock(nn.Module):
    """Norm-Act-Conv, + v_t (+ p_t), Norm-Act-Dropout-Conv, + shortcut. [B, C, H, W] at one resolution."""

    def __init__(self, layers: _Layers, channels_in: int, channels_out: int, embedding: int, size: int) -> None:
        super().__init__()
        network = layers.network
        self.norm1 = layers.norm(channels_in)
        self.conv1 = layers.conv(channels_in, channels_out)
        self.time = layers.linear(embedding, channels_out)
        self.position = layers.linear(embedding, size * size) if network.position == "mlp" else None
        self.norm2 = layers.norm(channels_out)
        self.dropout = nn.Dropout(network.dropout)
        self.conv2 = layers.conv(channels_out, channels_out, scale=_ZERO)
        self.shortcut = layers.pointwise(channels_in, channels_out) if channels_in != channels_out else None

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """embedded: SiLU of the level's embedding, [B, embedding]."""
        z = self.conv1(functional.silu(self.norm1(x)))
        z = z + self.time(embedded)[:, :, None, None]
        if self.position is not None:
            z = z + self.position(embedded).view(len(z), 1, *z.shape[2:])
        z = self.conv2(self.dropout(functional.silu(self.norm2(z))))
        out: Tensor = z + (x if self.shortcut is None else self.shortcut(x))
        return out


class Attention(nn.Module):
    """Single-head self-attention over the pixels of [B, C, H, W], residual."""

    def __init__(self, layers: _Layers, channels: int) -> None:
        super().__init__()
        self.norm = layers.norm(channels)
        self.query = layers.pointwise(channels, channels)
        self.key = layers.pointwise(channels, channels)
        self.value = layers.pointwise(channels, channels)
        self.project = layers.pointwise(channels, channels, scale=_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        query, key, value = (part(h).flatten(2).transpose(1, 2)[:, None] for part in (self.query, self.key, self.value))
        attended = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + self.project(attended[:, 0].transpose(1, 2).reshape(x.shape))
        return out


class Downsample(nn.Module):
    """3x3 convolution of stride 2, padded right and below only."""

    def __init__(self, layers: _Layers, channels: int) -> None:
        super().__init__()
        self.conv = layers.conv(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Nearest neighbour to twice the size, then a 3x3 convolution."""

    def __init__(self, layers: _Layers, channels: int) -> None:
        super().__init__()
        self.conv = layers.conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        doubled = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).reshape(batch, channels, 2 * height, 2 * width)
        out: Tensor = self.conv(doubled)
        return out


class UNet(nn.Module):
    """Predicts the noise in x [B, C, H, W] at level [B]; a denoiser for `pipeline.diffusion`."""

    def __init__(self, network: DdpmNetwork, image_channels: int, image_size: int) -> None:
        super().__init__()
        layers = _Layers(network)
        self.channels = network.channels
        embedding = 4 * network.channels
        widths = [network.channels * multiplier for multiplier in network.channel_multipliers]
        sizes = [image_size // 2**index for index in range(len(widths))]

        def block(channels_in: int, channels_out: int, size: int) -> ResidualBlock:
            return ResidualBlock(layers, channels_in, channels_out, embedding, size)

        self.embed = nn.Sequential(
            layers.linear(network.channels, embedding), nn.SiLU(), layers.linear(embedding, embedding)
        )
        self.conv_in = layers.conv(image_channels, network.channels)

        # On the way down each entry is a list of layers after which the state is kept as a skip.
        self.down = nn.ModuleList()
        skips, h = [network.channels], network.channels
        for index, (width, size) in enumerate(zip(widths, sizes, strict=True)):
            for _ in range(network.blocks):
                parts: list[nn.Module] = [block(h, width, size)]
                h = width
                if size in network.attention_sizes:
                    parts.append(Attention(layers, h))
                self.down.append(nn.ModuleList(parts))
                skips.append(h)
            if index < len(widths) - 1:
                self.down.append(nn.ModuleList([Downsample(layers, h)]))
                skips.append(h)

        self.middle = nn.ModuleList([block(h, h, sizes[-1]), Attention(layers, h), block(h, h, sizes[-1])])

        # On the way up each entry begins with a residual block that takes a skip.
        self.up = nn.ModuleList()
        for index in reversed(range(len(widths))):
            width, size = widths[index], sizes[index]
            for step in range(network.blocks + 1):
                parts = [block(h + skips.pop(), width, size)]
                h, last = width, step == network.blocks
                if size in network.attention_sizes and (last or network.up_attention == "each"):
                    parts.append(Attention(layers, h))
                if last and index > 0:
                    parts.append(Upsample(layers, h))
                self.up.append(nn.ModuleList(parts))
        assert not skips
        self.norm_out = layers.norm(h)
        self.conv_out = layers.conv(h, image_channels, scale=_ZERO)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        embedded = functional.silu(self.embed(embed_sinusoidally(level, self.channels)))
        h = self.conv_in(x)
        skips = [h]
        for entry in self.down:
            h = _apply(entry, h, embedded)
            skips.append(h)
        h = _apply(self.middle, h, embedded)
        for entry in self.up:
            h = _apply(entry, torch.cat([h, skips.pop()], 1), embedded)
        out: Tensor = self.conv_out(functional.silu(self.norm_out(h)))
        return out


def _apply(parts: nn.Module, x: Tensor, embedded: Tensor) -> Tensor:
    assert isinstance(parts, nn.ModuleList)
    for part in parts:
        x = part(x, embedded) if isinstance(part, ResidualBlock) else part(x)
    return x
