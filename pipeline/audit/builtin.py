"""Networks that can be audited by name, without anything given."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import nn

from pipeline.schema.base import SpecError

_SEED = 0


def import_diffusers() -> Any:
    """The library.

    Raises:
        SpecError: it is not installed.
    """
    try:
        return import_module("diffusers")
    except ModuleNotFoundError:
        raise SpecError("the package diffusers is not installed: pip install diffusers") from None


def make_unet2d() -> nn.Module:
    """diffusers' UNet2DModel in the shape of DDPM's for CIFAR-10, half as wide, with random weights."""
    network: nn.Module = import_diffusers().UNet2DModel(
        sample_size=32,
        block_out_channels=(64, 128, 128, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    return network.eval()


BUILT_IN: dict[str, Callable[[], Any]] = {"unet2d": make_unet2d}
"""By name: makes a module, or a module and example inputs, with random weights."""


def make_built_in(name: str) -> Any:
    """A network of `BUILT_IN`; the same weights each time."""
    with torch.random.fork_rng(()):
        torch.manual_seed(_SEED)
        return BUILT_IN[name]()
