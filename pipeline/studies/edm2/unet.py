"""The U-Net of the ladder: EDM's at config a, EDM2's at config g.

Source: Karras et al. 2024, EDM2 (arXiv 2312.02696), section 2 and appendix B, written from its formulas. What config g
is, is published. Differs: the steps between, B to F, are our small reading of section 2; self-attention is at the
lowest resolution, as digits have 8 pixels a side.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.layers.cosine_attention import attend
from pipeline.layers.magnitude import MpFourier, mp_cat, mp_silu, mp_sum, normalise_pixels
from pipeline.layers.mp_conv import MpConv
from pipeline.layers.norms import make_norm
from pipeline.layers.sinusoid import embed_sinusoidally
from pipeline.studies.edm2.study import LadderNetwork

_RESIDUAL = 0.3
"""Share of a branch in EDM2's residual sums."""


class Rung:
    """What a config has, and the parts that depend on it."""

    def __init__(self, config: str) -> None:
        self.learned_weighting = config >= "b"
        self.plain = config >= "c"
        """No biases, norms without an affine map, Fourier features, a gain in place of scale and shift."""
        self.preserving = config >= "d"
        self.forced = config >= "e"
        self.pixel_norm = config >= "f"
        self.fixed = config >= "g"
        """Magnitude-preserving activations, sums and concatenations."""

    def conv(self, channels_in: int, channels_out: int, kernel: int = 0, *, zero: bool = False) -> nn.Module:
        """A convolution, or a linear layer if `kernel` is 0.

        Args:
            zero: whether initial weights are 0; magnitude-preserving ones cannot be: a gain beside them is.
        """
        if self.preserving:
            return MpConv(channels_in, channels_out, kernel)
        bias = not self.plain
        layer: nn.Module = (
            nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=bias)
            if kernel
            else nn.Linear(channels_in, channels_out, bias=bias)
        )
        for value in layer.parameters() if zero else ():
            nn.init.zeros_(value)
        return layer

    def norm(self, channels: int) -> nn.Module:
        """The group norm before a convolution: groups of four channels; none from config f on."""
        if self.pixel_norm:
            return nn.Identity()
        if self.plain:
            return nn.GroupNorm(channels // 4, channels, affine=False)
        return make_norm("group", channels, 0, channels // 4)

    def activate(self, x: Tensor) -> Tensor:
        """SiLU."""
        return mp_silu(x) if self.fixed else functional.silu(x)

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """A residual sum."""
        return mp_sum(x, branch, _RESIDUAL) if self.fixed else x + branch

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """The state beside a skip."""
        return mp_cat(x, skip) if self.fixed else torch.cat([x, skip], 1)


class ResidualBlock(nn.Module):
    """A residual block [B, C, H, W] that is told the noise level, as scale and shift (a, b) or as a gain.

    Args:
        way: encoder blocks adapt channels and normalise pixels before the branch, decoder blocks adapt them after it.
        attention: whether self-attention follows.
    """

    def __init__(
        self, rung: Rung, channels_in: int, channels_out: int, embedding: int, way: str, *, attention: bool
    ) -> None:
        super().__init__()
        self.rung, self.encodes = rung, way == "encoder"
        first = channels_out if self.encodes else channels_in
        self.skip = rung.conv(channels_in, channels_out, 1) if channels_in != channels_out else None
        self.norm0, self.conv0 = rung.norm(first), rung.conv(first, channels_out, 3)
        self.tell = rung.conv(embedding, channels_out * (1 if rung.plain else 2))
        self.gain = nn.Parameter(torch.zeros(())) if rung.plain else None
        self.norm1, self.conv1 = rung.norm(channels_out), rung.conv(channels_out, channels_out, 3, zero=True)
        self.norm2 = rung.norm(channels_out) if attention else None
        self.parts = rung.conv(channels_out, 3 * channels_out, 1) if attention else None
        self.project = rung.conv(channels_out, channels_out, 1, zero=True) if attention else None

    def _tell(self, y: Tensor, embedded: Tensor) -> Tensor:
        told = self.tell(embedded)[:, :, None, None]  # [B, C or 2C, 1, 1]
        scale, shift = (self.gain * told, None) if self.gain is not None else told.chunk(2, 1)
        out: Tensor = y * (1 + scale)
        return out if shift is None else out + shift

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        rung = self.rung
        if self.encodes:
            x = x if self.skip is None else self.skip(x)
            x = normalise_pixels(x) if rung.pixel_norm else x
        y = self.norm1(self.conv0(rung.activate(self.norm0(x))))
        y = self.conv1(rung.activate(self._tell(y, embedded)))
        if not self.encodes and self.skip is not None:
            x = self.skip(x)
        x = rung.add(x, y)
        if self.parts is not None and self.norm2 is not None and self.project is not None:
            x = rung.add(x, self.project(self._attend(self.parts(self.norm2(x)))))
        return x

    def _attend(self, parts: Tensor) -> Tensor:
        """Cosine attention; before config c, dot products as they are."""
        if self.rung.plain:
            return attend(parts)
        query, key, value = parts.flatten(2).chunk(3, 1)  # [B, C, HW] each
        shares = (query.transpose(1, 2) @ key * query.shape[1] ** -0.5).softmax(-1)
        attended: Tensor = (value @ shares.transpose(1, 2)).view(len(parts), -1, *parts.shape[2:])
        return attended


class Uncertainty(nn.Module):
    """u of a noise level: the log of the loss that is to be expected there (equations 14 to 16 and 21)."""

    def __init__(self, rung: Rung) -> None:
        super().__init__()
        self.fourier, self.linear = MpFourier(32), rung.conv(32, 1, zero=True)

    def forward(self, label: Tensor) -> Tensor:
        out: Tensor = self.linear(self.fourier(label))[:, 0]
        return out


class LadderUNet(nn.Module):
    """F of EDM's preconditioning: images [B, 1, H, W] of variance 1 and labels [B], ln(sigma) / 4, to [B, 1, H, W].

    Initial weights are drawn from torch's global generator. At first the output is 0, so it does not depend on the
    label: by a gain of 0 from config d on, by weights of 0 before.
    """

    def __init__(self, network: LadderNetwork) -> None:
        super().__init__()
        rung = self.rung = Rung(network.config)
        widths = [network.channels * 2 ** min(level, 1) for level in range(network.levels)]
        embedding = 4 * network.channels
        self.fourier = MpFourier(network.channels) if rung.plain else None
        self.channels = network.channels
        self.embed0 = rung.conv(network.channels, embedding)
        self.embed1 = None if rung.plain else rung.conv(embedding, embedding)
        self.conv_in = rung.conv(2 if rung.plain else 1, widths[0], 3)

        def block(channels_in: int, width: int, way: str, level: int) -> ResidualBlock:
            last = level == network.levels - 1 > 0
            return ResidualBlock(rung, channels_in, width, embedding, way, attention=last)

        self.down, self.up, skips, h = nn.ModuleList(), nn.ModuleList(), [widths[0]], widths[0]
        for level, width in enumerate(widths):
            self.down.append(block(h, width, "encoder", level))
            h = width
            skips.append(h)
        for level in reversed(range(network.levels)):
            self.up.append(block(h + skips.pop(), widths[level], "decoder", level))
            h = widths[level]
        self.last = block(h + skips.pop(), h, "decoder", 0)
        self.norm_out, self.conv_out = rung.norm(h), rung.conv(h, 1, 3, zero=True)
        self.gain_out = nn.Parameter(torch.zeros(())) if rung.preserving else None
        self.uncertainty = Uncertainty(rung) if rung.learned_weighting else None

    def list_blocks(self) -> dict[str, ResidualBlock]:
        """The residual blocks in the order in which they run, by name."""
        return {name: part for name, part in self.named_modules() if isinstance(part, ResidualBlock)}

    def _embed(self, label: Tensor) -> Tensor:
        rung = self.rung
        if self.fourier is not None:
            return rung.activate(self.embed0(self.fourier(label)))
        assert self.embed1 is not None
        # The sinusoid is made for levels 0..999: labels in about [-1, 1] take a part of that range.
        sinusoid = embed_sinusoidally(250 * (label + 2), self.channels)
        return rung.activate(self.embed1(rung.activate(self.embed0(sinusoid))))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        rung, embedded = self.rung, self._embed(label)
        h = self.conv_in(torch.cat([x, torch.ones_like(x)], 1) if rung.plain else x)
        skips = [h]
        for index, part in enumerate(self.down):
            h = part(functional.avg_pool2d(h, 2) if index else h, embedded)
            skips.append(h)
        for index, part in enumerate(self.up):
            h = part(rung.join(functional.interpolate(h, scale_factor=2.0) if index else h, skips.pop()), embedded)
        h = self.last(rung.join(h, skips.pop()), embedded)
        h = self.norm_out(h)
        out: Tensor = self.conv_out(h if rung.pixel_norm else functional.silu(h))
        return out if self.gain_out is None else out * self.gain_out
