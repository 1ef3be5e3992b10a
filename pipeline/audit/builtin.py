"""Networks that can be audited by name, without anything given: ours, and small ones of libraries."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.audit import library
from pipeline.audit.adapters import make_inputs
from pipeline.studies.ddpm.study import DdpmNetwork
from pipeline.studies.ddpm.unet import UNet
from pipeline.studies.node.network import OdeFunction
from pipeline.studies.node.study import NodeNetwork

_CHANNELS, _SIZE = 64, 8
"""Of feature maps, as in the paper's classifier."""
_UNET: dict[str, Any] = {
    "channels": 32, "channel_multipliers": [1, 2], "blocks": 1, "attention_sizes": [8], "groups": 8, "outer_groups": 8
}  # fmt: skip


class ConcatSquash(nn.Module):
    """FFJORD's layer (Grathwohl et al. 2019) on feature maps, with a norm behind it.

    norm(conv(x) * sigmoid(a t + b) + c t): the time gates each channel, and adds an offset.

    Args:
        groups: of the norm.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate, self.offset = nn.Linear(1, channels), nn.Linear(1, channels, bias=False)
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """f(t, x), [B, C, H, W]; t is a scalar."""
        gate, offset = (layer(t.reshape(1, 1))[..., None, None] for layer in (self.gate, self.offset))
        out: Tensor = self.norm(self.conv(x) * gate.sigmoid() + offset)
        return out


def _make_node(**fields: Any) -> nn.Module:
    """The ODE function of the paper's classifier."""
    return OdeFunction(NodeNetwork.model_validate({"channels": _CHANNELS, "time": "linear", **fields}), _SIZE)


def _make_unet(**fields: Any) -> nn.Module:
    """Our U-Net, narrower."""
    return UNet(DdpmNetwork.model_validate({**_UNET, **fields}), 3, library.SIDE, 1000)


def _make_concat_squash() -> Any:
    return ConcatSquash(_CHANNELS, _CHANNELS // 4), {"x": torch.randn(library.IMAGES, _CHANNELS, _SIZE, _SIZE)}


BUILT_IN: Mapping[str, Callable[[], Any]] = {
    "node": _make_node,
    "node_by_channel": lambda: _make_node(groups=_CHANNELS),
    "unet": _make_unet,
    "unet_by_channel": lambda: _make_unet(groups_scope="sites", norm="instance"),
    "concat_squash": _make_concat_squash,
    "unet2d": library.make_unet2d,
    "unet2d_scale_shift": lambda: library.make_unet2d(resnet_time_scale_shift="scale_shift"),
    "unet2d_condition": library.make_unet2d_condition,
    "dit": library.make_dit,
    "sd3": library.make_sd3,
    "flux": library.make_flux,
    "torchcfm": library.make_torchcfm,
    "denoising_diffusion": library.make_denoising_diffusion,
}
"""By name: makes a module, or a module and example inputs, with random weights."""


def make_built_in(name: str, seed: int = 0) -> tuple[nn.Module, Any]:
    """A network of `BUILT_IN` and example inputs; the same for the same seed.

    Raises:
        SpecError: its package is not installed.
    """
    with torch.random.fork_rng(()):
        torch.manual_seed(seed)
        made = BUILT_IN[name]()
        network, inputs = made if isinstance(made, tuple) else (made, make_inputs(made))
    return network.eval(), inputs
