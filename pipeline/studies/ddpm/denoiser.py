"""Makes the denoiser of a run: our U-Net, or a network of the user's own."""

import torch
from torch import nn

from pipeline.layers.foreign import DENOISER, ForeignDenoiser, make_network
from pipeline.run.foreign import import_own
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


def build_denoiser(network: DdpmNetwork, channels: int, image_size: int, levels: int) -> UNet | OwnDenoiser:
    """The network on images [B, channels, image_size, image_size], initialised from torch's global generator.

    Raises:
        SpecError: the user's own cannot be made or called.
    """
    name = network.denoiser
    if name is None:
        return UNet(network, channels, image_size, levels)
    return OwnDenoiser(make_network(import_own(name), name, channels, image_size), name, channels, image_size, levels)


def make_denoiser(run: DdpmRun, channels: int) -> UNet | OwnDenoiser:
    """The network of a run; see `build_denoiser`."""
    return build_denoiser(run.network, channels, run.training.image_size, run.diffusion.levels)
