"""Whether an untrained block of EDM2 knows the noise level: by how it is told, and which norm follows. In float64."""

from itertools import product

import torch
from torch import Tensor, nn

from pipeline.compute.seeding import make_generator, seed_global
from pipeline.layers.magnitude import MpFourier, mp_silu, mp_sum, normalise_pixels
from pipeline.layers.mp_conv import MpConv
from pipeline.layers.norms import make_norm
from pipeline.studies.edm2.study import Block, BlockCell, BlockRun, Edm2Record

INJECTIONS = ("gain", "offset", "position")
NORMS = ("none", "pixel", "layer", "group", "instance", "batch")
_BY_CHANNEL = ("instance", "batch")
"""Norms that give each channel a mean and a variance of its own."""
_EPS = 1e-30
_LABELS = torch.linspace(-1.5, 1.0, 6, dtype=torch.float64)
"""Noise levels, as ln(sigma) / 4: from 0.0025 to 55."""


class ToldBlock(nn.Module):
    """EDM2's residual block, with the level told as a gain (its own), an offset, or a map over pixels.

    gain: y (1 + g e); offset: y + g e; position: y + g e_1 m, m a fixed map: one number times a form, as the positional
    embedding of `node` with position=linear. e = MPlinear(embedding) has a mean square of 1.
    """

    pattern: Tensor

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block, self.gain = block, block.gain
        self.fourier, self.embed = MpFourier(4 * block.width), MpConv(4 * block.width, block.width)
        self.conv0, self.conv1 = (MpConv(block.width, block.width, 3) for _ in range(2))
        self.register_buffer("pattern", torch.randn(block.pixels, block.pixels))

    def find_factors(self, label: Tensor) -> Tensor:
        """1 + g e [C] at a level []."""
        embedded: Tensor = self.embed(self.fourier(label[None]))
        return 1 + self.gain * embedded[0]

    def _tell(self, y: Tensor, label: Tensor, inject: str) -> Tensor:
        factors = self.find_factors(label)[:, None, None]
        if inject == "gain":
            return y * factors
        return y + (factors - 1 if inject == "offset" else (factors[:1] - 1) * self.pattern)

    def _normalise(self, y: Tensor, norm: str) -> Tensor:
        """The norm, at an eps that rounding swallows: with a greater one, a gain is cancelled up to eps only."""
        if norm == "none":
            return y
        if norm == "pixel":
            return normalise_pixels(y)
        width, size = self.block.width, self.block.pixels
        layer = make_norm(norm, width, size, 4, eps=_EPS).double()  # type: ignore[arg-type]
        out: Tensor = layer(y)
        return out

    def forward(self, x: Tensor, label: Tensor, inject: str = "gain", norm: str = "none") -> Tensor:
        y = self._tell(self.conv0(mp_silu(x)), label, inject)
        return mp_sum(x, self.conv1(mp_silu(self._normalise(y, norm))), 0.3)


def measure_change(block: ToldBlock, x: Tensor, inject: str, norm: str) -> float:
    """Largest ||out(label) - out(first label)|| / ||out(first label)||."""
    first, *others = (block(x, label, inject, norm) for label in _LABELS)
    return max(float((out - first).norm() / first.norm()) for out in others)


@torch.no_grad()
def measure_block(run: BlockRun) -> Edm2Record:
    """Every injection before every norm; and EDM2's block at a gain of 0, as it is at first."""
    seed_global(run.seed, "initialisation")
    block, shape = ToldBlock(run.block).double(), (run.block.inputs, run.block.width, *[run.block.pixels] * 2)
    x = torch.randn(shape, generator=make_generator("cpu", run.seed, "inputs"), dtype=torch.float64)
    negative = torch.stack([block.find_factors(label) < 0 for label in _LABELS])  # [levels, C]
    flips = bool((negative != negative[0]).any())
    cells = [
        BlockCell(
            inject=inject,  # type: ignore[arg-type]
            norm=norm,  # type: ignore[arg-type]
            change=measure_change(block, x, inject, norm),
            vanishes=norm in _BY_CHANNEL and (inject == "offset" or (inject == "gain" and not flips)),
        )
        for inject, norm in product(INJECTIONS, NORMS)
    ]
    change = {(cell.inject, cell.norm): cell.change for cell in cells}
    block.gain = 0.0
    return Edm2Record(
        lost=max(cell.change for cell in cells if cell.vanishes),
        kept=min(cell.change for cell in cells if not cell.vanishes),
        change_initial=measure_change(block, x, "gain", "none"),
        change=change["gain", "none"],
        change_instance=change["gain", "instance"],
        change_batch=change["gain", "batch"],
        flipped=negative.any(0).double().mean().item(),
        cells=cells,
    )
