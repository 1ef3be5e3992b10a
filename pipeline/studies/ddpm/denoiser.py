"""Makes the network of a run: our U-Net, with plain or EDM2's layers, or a network of the user's own."""

import torch
from torch import nn

from pipeline.diffusion.output import Output
from pipeline.layers.foreign import DENOISER, ForeignDenoiser, make_network
from pipeline.run.foreign import import_own
from pipeline.studies.ddpm.magnitude_unet import MagnitudeUNet
from pipeline.studies.ddpm.study import DdpmNetwork, DdpmRun
from pipeline.studies.ddpm.unet import UNet


class OwnDenoiser(ForeignDenoiser):
    """A user's network as a `Denoiser`: (x [B, C, H, W], level [B] or [1], float) to the noise in x.

    Its weights have a buffer as long as an image has channels: the sampler, which sees no image, reads it there.

    Args:
        name: of the factory, for messages.
        levels: number of noise levels.
    """

    def __init__(self, network: nn.Module, name: str, channels: int, image_size: int, levels: int) -> None:
        super().__init__(network, (channels, image_size, image_size), DENOISER, name)
        self.levels = levels
        self.register_buffer("image_channels", torch.zeros(channels))


DdpmDenoiser = UNet | MagnitudeUNet | OwnDenoiser
"""The networks of the study; each has `levels`, its number of noise levels."""


def build_denoiser(network: DdpmNetwork, channels: int, image_size: int, levels: int) -> DdpmDenoiser:
    """The network on images [B, channels, image_size, image_size], initialised from torch's global generator.

    Raises:
        SpecError: the user's own cannot be made or called.
    """
    name = network.denoiser
    if name is None:
        kind = UNet if network.magnitude == "none" else MagnitudeUNet
        return kind(network, channels, image_size, levels)
    return OwnDenoiser(make_network(import_own(name), name, channels, image_size), name, channels, image_size, levels)


def make_denoiser(run: DdpmRun, channels: int) -> DdpmDenoiser:
    """The network of a run; see `build_denoiser`."""
    return build_denoiser(run.network, channels, run.training.image_size, run.diffusion.levels)


def make_output(run: DdpmRun) -> Output:
    """What the network's output stands for."""
    return Output(run.training.parametrisation, run.training.data_sigma)
