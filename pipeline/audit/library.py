"""Small networks of libraries, with random weights."""

from importlib import import_module
from typing import Any

import torch
from torch import nn

from pipeline.schema.base import SpecError

IMAGES, SIDE = 2, 16
"""Of example inputs, and their size in pixels."""
_AUDIT = "--no-deps -r requirements-audit.lock"


def import_package(name: str, module: str | None = None, install: str | None = None) -> Any:
    """A package that not everyone has, or a module of it.

    Args:
        install: what pip is to install; None: the package.

    Raises:
        SpecError: it is not installed.
    """
    try:
        return import_module(module or name)
    except ModuleNotFoundError as error:
        missing = "" if error.name in (None, name.replace("-", "_")) else f" ({error.name} is missing)"
        raise SpecError(f"the package {name} is not installed{missing}: pip install {install or name}") from None


def import_diffusers() -> Any:
    """The library.

    Raises:
        SpecError: it is not installed.
    """
    return import_package("diffusers")


def make_unet2d() -> nn.Module:
    """diffusers' UNet2DModel in the shape of DDPM's for CIFAR-10, half as wide, with random weights."""
    network: nn.Module = import_diffusers().UNet2DModel(
        sample_size=32,
        block_out_channels=(64, 128, 128, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    return network


def make_unet2d_small(**fields: Any) -> nn.Module:
    """The same on two resolutions, narrower."""
    network: nn.Module = import_diffusers().UNet2DModel(
        sample_size=SIDE,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        **fields,
    )
    return network


def make_unet2d_condition() -> nn.Module:
    """diffusers' UNet2DConditionModel, small: of text, as in Stable Diffusion."""
    network: nn.Module = import_diffusers().UNet2DConditionModel(
        sample_size=SIDE,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    return network


def make_dit() -> nn.Module:
    """diffusers' DiT of two blocks."""
    network: nn.Module = import_diffusers().DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, num_layers=2, sample_size=8
    )
    return network


def make_sd3() -> nn.Module:
    """diffusers' SD3 of two blocks."""
    network: nn.Module = import_diffusers().SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, out_channels=4,
        pos_embed_max_size=8,
    )  # fmt: skip
    return network


def make_flux() -> nn.Module:
    """diffusers' Flux of one block of each kind."""
    network: nn.Module = import_diffusers().FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    return network


def make_torchcfm() -> Any:
    """torchcfm's U-Net; t is in [0, 1]."""
    package = import_package("torchcfm", "torchcfm.models.unet.unet", _AUDIT)
    network = package.UNetModelWrapper(
        dim=(3, SIDE, SIDE), num_channels=64, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions="8"
    )
    return network, {"x": torch.randn(IMAGES, 3, SIDE, SIDE)}


def make_denoising_diffusion() -> Any:
    """denoising-diffusion-pytorch's Unet."""
    package = import_package("denoising-diffusion-pytorch", "denoising_diffusion_pytorch", _AUDIT)
    return package.Unet(dim=32, dim_mults=(1, 2)), {"x": torch.randn(IMAGES, 3, SIDE, SIDE)}
