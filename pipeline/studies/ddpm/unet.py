"""The U-Net of DDPM, as in score_sde_pytorch's models/ddpm.py, with the paper's remedies as options."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.layers.norms import make_norm
from pipeline.layers.sinusoid import embed_sinusoidally
from pipeline.studies.ddpm.study import DdpmNetwork, DdpmRun

# score_sde_pytorch's constants.
_EPS = 1e-6  # eps of every norm
_ZERO = 1e-10  # variance scale of layers that start at almost zero
_NIN = 0.1  # variance scale of 1x1 convolutions


@dataclass(frozen=True)
class LevelInputs:
    """The level as input to the residual blocks, in three forms."""

    embedded: Tensor | None
    """SiLU of the level's embedding, [B, 4 channels]; None: nothing in the network takes it."""
    sinusoid: Tensor
    """Sinusoidal embedding, [B, channels]."""
    fraction: Tensor
    """level / levels, [B, 1]."""


class _Layers:
    """Makes initialised layers: uniform weights by variance scaling (fan average), biases and norms by place.

    Source: score_sde_pytorch, models/layers.py, `default_init`. Biases that zero_bias leaves out get PyTorch's default.
    """

    def __init__(self, network: DdpmNetwork) -> None:
        self.network = network

    def _initialise(self, layer: nn.Conv2d | nn.Linear, zero_bias: bool, scale: float = 1) -> None:
        fan_in = layer.weight[0].numel()  # input channels times kernel area
        fan_out = layer.weight[:, 0].numel()
        bound = math.sqrt(3 * scale / ((fan_in + fan_out) / 2))  # uniform, with variance scale / fan average
        nn.init.uniform_(layer.weight, -bound, bound)
        if layer.bias is None:
            return
        if zero_bias:
            nn.init.zeros_(layer.bias)
        else:
            nn.init.uniform_(layer.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))  # PyTorch's default

    def conv(
        self, channels_in: int, channels_out: int, stride: int = 1, padding: int = 1, scale: float = 1, side: int = 3
    ) -> nn.Conv2d:
        layer = nn.Conv2d(channels_in, channels_out, side, stride, padding)
        self._initialise(layer, self.network.zero_bias in ("conv", "all"), scale)
        return layer

    def pointwise(self, channels_in: int, channels_out: int, scale: float = _NIN) -> nn.Conv2d:
        return self.conv(channels_in, channels_out, padding=0, scale=scale, side=1)

    def linear(self, features_in: int, features_out: int, place: Literal["embedding", "sites"]) -> nn.Linear:
        layer = nn.Linear(features_in, features_out)
        self._initialise(layer, self._zero_time_bias(place))
        return layer

    def _zero_time_bias(self, place: Literal["embedding", "sites"]) -> bool:
        network = self.network
        return network.zero_bias in ("time", "all") or network.time_bias_scope not in ("all", place)

    def map(self, features: int, size: int, bias: bool) -> nn.Linear:
        """The linear layer [B, features] to [B, size^2] whose outputs are a map's pixels."""
        network, layer = self.network, nn.Linear(features, size * size, bias)
        rule = network.position_bias
        self._initialise(layer, self._zero_time_bias("sites") if rule == "branch" else rule == "zero")
        if network.position_init == "zero":
            nn.init.zeros_(layer.weight)
        return layer

    def norm(self, channels: int, size: int, after_site: bool = False) -> nn.Module:
        network = self.network
        if after_site or network.groups_scope == "all":
            return make_norm(network.norm, channels, size, network.groups, eps=_EPS)
        return make_norm("group", channels, size, network.outer_groups, eps=_EPS)


class PositionMap(nn.Module):
    """The positional timestep embedding p_t: a map [B, 1, size, size] of the level (the paper's Equation 6)."""

    def __init__(self, layers: _Layers, size: int) -> None:
        super().__init__()
        network = layers.network
        self.input, self.mean, self.size = network.position_input, network.position_mean, size
        embedding = 4 * network.channels
        features = {"embedding": embedding, "sinusoid": network.channels, "mlp": embedding, "level": 1}[self.input]
        self.hidden = layers.linear(network.channels, embedding, "sites") if self.input == "mlp" else None
        self.pixels = layers.map(features, size, bias=self.input != "level")

    def forward(self, inputs: LevelInputs) -> Tensor:
        known = {"embedding": inputs.embedded, "level": inputs.fraction}.get(self.input, inputs.sinusoid)
        assert known is not None
        if self.hidden is not None:
            known = functional.silu(self.hidden(known))
        pixels = self.pixels(known)
        if self.mean:  # the control: one value for all pixels
            pixels = pixels.mean(1, keepdim=True).expand_as(pixels)
        out: Tensor = pixels.view(len(pixels), 1, self.size, self.size)
        return out


def shrink(maps: Tensor, size: int) -> Tensor:
    """Average maps [B, 1, H, W] over squares of pixels to [B, 1, size, size]."""
    factor = maps.shape[-1] // size
    # [B, 1, size, factor, size, factor]
    return maps.view(len(maps), 1, size, factor, size, factor).mean((3, 5))


def _activate(x: Tensor) -> Tensor:
    """SiLU; in place where no gradient needs x."""
    return functional.silu(x, inplace=not torch.is_grad_enabled())


class ResidualBlock(nn.Module):
    """Norm-Act-Conv, plus v_t (and p_t), Norm-Act-Dropout-Conv, plus shortcut. [B, C_in, H, W] to [B, C_out, H, W].

    Source: score_sde_pytorch, models/layers.py, ResnetBlockDDPM (the paper's listing 2).
    """

    def __init__(self, layers: _Layers, channels_in: int, channels_out: int, size: int) -> None:
        super().__init__()
        network = layers.network
        own_map = network.position != "none" and network.position_maps == "block"
        self.size = size
        self.norm1 = layers.norm(channels_in, size)
        self.conv1 = layers.conv(channels_in, channels_out)
        timed = network.time == "embedding"
        self.time = layers.linear(4 * network.channels, channels_out, "sites") if timed else None
        self.position = PositionMap(layers, size) if own_map else None
        self.norm2 = layers.norm(channels_out, size, after_site=True)
        self.dropout = nn.Dropout(network.dropout)
        self.conv2 = layers.conv(channels_out, channels_out, scale=_ZERO)
        self.shortcut = layers.pointwise(channels_in, channels_out) if channels_in != channels_out else None

    def embed(self, inputs: LevelInputs, shared: Tensor | None) -> Tensor:
        """v_t + p_t: [B, C, 1, 1] without a map, else [B, C, H, W]; under time=none v_t is 0 [1, 1, 1, 1].

        Args:
            shared: the map that blocks share [B, 1, H, W]; None if the block has its own, or there is none.
        """
        if self.time is None:
            v = inputs.sinusoid.new_zeros(1, 1, 1, 1)
        else:  # before p_t: the order decides in which order gradients add up
            assert inputs.embedded is not None
            v = self.time(inputs.embedded)[:, :, None, None]
        p = self.position(inputs) if self.position is not None else shared
        return v if p is None else v + p

    def _convolve(self, x: Tensor, inputs: LevelInputs, shared: Tensor | None) -> Tensor:
        """The first convolution plus v_t + p_t."""
        added = self.embed(inputs, shared)
        # With one level for all images, as in sampling, v_t joins the bias of the convolution at no cost.
        if added.shape[0] == added.shape[-1] == 1:
            assert self.conv1.bias is not None
            return functional.conv2d(x, self.conv1.weight, self.conv1.bias + added.flatten(), padding=1)
        out: Tensor = self.conv1(x) + added
        return out

    def forward(self, x: Tensor, inputs: LevelInputs, shared: Tensor | None) -> Tensor:
        z = self._convolve(_activate(self.norm1(x)), inputs, shared)
        z = self.conv2(self.dropout(_activate(self.norm2(z))))
        skip: Tensor = x if self.shortcut is None else self.shortcut(x)
        out: Tensor = z + skip if torch.is_grad_enabled() else z.add_(skip)
        return out


class Attention(nn.Module):
    """Single-head self-attention over the pixels of [B, C, H, W], with a residual connection.

    Source: score_sde_pytorch, models/layers.py, AttnBlock.
    """

    def __init__(self, layers: _Layers, channels: int, size: int) -> None:
        super().__init__()
        self.norm = layers.norm(channels, size)
        self.query = layers.pointwise(channels, channels)
        self.key = layers.pointwise(channels, channels)
        self.value = layers.pointwise(channels, channels)
        self.project = layers.pointwise(channels, channels, scale=_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        parts = (self.query, self.key, self.value)
        # One convolution for query, key and value: [3C, C, 1, 1].
        weight, bias = (torch.cat([getattr(part, kind) for part in parts]) for kind in ("weight", "bias"))
        query, key, value = functional.conv2d(self.norm(x), weight, bias).flatten(2).chunk(3, 1)  # [B, C, HW] each
        if x.is_cuda:
            query, key, value = (part.transpose(1, 2)[:, None] for part in (query, key, value))  # [B, 1, HW, C] each
            attended = functional.scaled_dot_product_attention(query, key, value)[:, 0].transpose(1, 2)
        else:  # on a CPU, two matrix products are faster than fused attention
            shares = torch.bmm(query.transpose(1, 2) * query.shape[1] ** -0.5, key).softmax(-1)  # [B, HW, HW]
            attended = torch.bmm(value, shares.transpose(1, 2).to(value.dtype))
        out: Tensor = x + self.project(attended.reshape(x.shape))
        return out


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2, padded at the right and bottom only: [B, C, H, W] to [B, C, H/2, W/2]."""

    def __init__(self, layers: _Layers, channels: int) -> None:
        super().__init__()
        self.conv = layers.conv(channels, channels, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Nearest-neighbour upsampling, then a 3x3 convolution: [B, C, H, W] to [B, C, 2H, 2W]."""

    def __init__(self, layers: _Layers, channels: int) -> None:
        super().__init__()
        self.conv = layers.conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        # Each output pixel depends on 2x2 pixels of x: four 2x2 kernels take 4/9 of the multiplications.
        rows = []
        for down, kernel in enumerate(_fold(self.conv.weight, 2)):
            columns = []
            for right, part in enumerate(_fold(kernel, 3)):
                padded = functional.pad(x, (1 - right, right, 1 - down, down))
                columns.append(functional.conv2d(padded, part, self.conv.bias))
            rows.append(torch.stack(columns, -1).flatten(-2))  # [B, C, H, W, 2] to [B, C, H, 2W]
        out: Tensor = torch.stack(rows, 3).flatten(2, 3)  # [B, C, H, 2, 2W] to [B, C, 2H, 2W]
        return out


def _fold(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Folds a 3-tap kernel on a 2x upsampled axis into 2-tap kernels for even and odd outputs."""
    before, at, after = kernel.unbind(dim)
    return torch.stack([before, at + after], dim), torch.stack([before + at, after], dim)


class UNet(nn.Module):
    """The U-Net: predicts the noise in x [B, C, H, W] at level [B], or [1] for all images. A `Denoiser`.

    Source: score_sde_pytorch, models/ddpm.py; up_attention=each is as in Ho et al. 2020.

    Args:
        levels: number of noise levels.
    """

    def __init__(self, network: DdpmNetwork, image_channels: int, image_size: int, levels: int) -> None:
        super().__init__()
        layers = _Layers(network)
        self.channels, self.levels, self.image_size = network.channels, levels, image_size
        embedding = 4 * network.channels
        widths = [network.channels * multiplier for multiplier in network.channel_multipliers]
        sizes = [image_size // 2**index for index in range(len(widths))]

        def block(channels_in: int, channels_out: int, size: int) -> ResidualBlock:
            return ResidualBlock(layers, channels_in, channels_out, size)

        self.embed: nn.Sequential | None = None
        if network.time == "embedding" or (network.position, network.position_input) == ("mlp", "embedding"):
            self.embed = nn.Sequential(
                layers.linear(network.channels, embedding, "embedding"),
                nn.SiLU(),
                layers.linear(embedding, embedding, "embedding"),
            )
        self.conv_in = layers.conv(image_channels, network.channels)

        # Way down: each entry is a list of layers whose output is kept as a skip.
        self.down = nn.ModuleList()
        skips, h = [network.channels], network.channels  # channels of the skips, and of the state so far
        for index, (width, size) in enumerate(zip(widths, sizes, strict=True)):
            for _ in range(network.blocks):
                parts: list[nn.Module] = [block(h, width, size)]
                h = width
                if size in network.attention_sizes:
                    parts.append(Attention(layers, h, size))
                self.down.append(nn.ModuleList(parts))
                skips.append(h)
            if index < len(widths) - 1:
                self.down.append(nn.ModuleList([Downsample(layers, h)]))
                skips.append(h)

        self.middle = nn.ModuleList([block(h, h, sizes[-1]), Attention(layers, h, sizes[-1]), block(h, h, sizes[-1])])

        # Way up: each entry begins with a residual block that takes a skip.
        self.up = nn.ModuleList()
        for index in reversed(range(len(widths))):
            width, size = widths[index], sizes[index]
            for step in range(network.blocks + 1):
                parts = [block(h + skips.pop(), width, size)]
                h, last = width, step == network.blocks
                if size in network.attention_sizes and (last or network.up_attention == "each"):
                    parts.append(Attention(layers, h, size))
                if last and index > 0:
                    parts.append(Upsample(layers, h))
                self.up.append(nn.ModuleList(parts))
        assert not skips
        self.norm_out = layers.norm(h, image_size)
        self.conv_out = layers.conv(h, image_channels, scale=_ZERO)

        # Positional maps that blocks share, by resolution.
        self.positions = nn.ModuleDict()
        if network.position != "none" and network.position_maps != "block":
            own = sizes if network.position_maps == "resolution" else sizes[:1]
            self.positions.update({str(size): PositionMap(layers, size) for size in own})
        self.sizes = sizes

    def list_blocks(self) -> list[ResidualBlock]:
        """The residual blocks, in the order in which they run."""
        return [part for part in self.modules() if isinstance(part, ResidualBlock)]

    def make_inputs(self, level: Tensor) -> LevelInputs:
        """Embed levels [B] for the residual blocks."""
        sinusoid = embed_sinusoidally(level, self.channels)
        fraction = level.to(sinusoid.dtype)[:, None] / self.levels
        embedded = None if self.embed is None else functional.silu(self.embed(sinusoid))
        return LevelInputs(embedded, sinusoid, fraction)

    def make_shared_maps(self, inputs: LevelInputs) -> dict[int, Tensor]:
        """The maps that blocks share, by resolution; empty if they share none."""
        maps = {int(size): position(inputs) for size, position in self.positions.items()}
        if len(maps) == 1:  # one map for the whole network, or only one resolution
            maps |= {size: shrink(maps[self.image_size], size) for size in self.sizes if size not in maps}
        return maps

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        inputs = self.make_inputs(level)
        maps = self.make_shared_maps(inputs)
        h = self.conv_in(x)
        skips = [h]
        for entry in self.down:
            h = _apply(entry, h, inputs, maps)
            skips.append(h)
        h = _apply(self.middle, h, inputs, maps)
        for entry in self.up:
            h = _apply(entry, torch.cat([h, skips.pop()], 1), inputs, maps)  # the skip joins along the channels
        out: Tensor = self.conv_out(functional.silu(self.norm_out(h)))
        return out


def _apply(parts: nn.Module, x: Tensor, inputs: LevelInputs, maps: Mapping[int, Tensor]) -> Tensor:
    assert isinstance(parts, nn.ModuleList)
    for part in parts:
        x = part(x, inputs, maps.get(part.size)) if isinstance(part, ResidualBlock) else part(x)
    return x


def make_unet(run: DdpmRun, image_channels: int) -> UNet:
    """The U-Net of a run, initialised from torch's global generator."""
    return UNet(run.network, image_channels, run.training.image_size, run.diffusion.levels)
