"""The places where time enters a network, as sums of branches whose parameters are known by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.studies.ddpm.unet import PositionMap, ResidualBlock, UNet
from pipeline.studies.node.derived import ode_width
from pipeline.studies.node.network import NodeClassifier, OdeFunction
from pipeline.studies.node.timed_conv import Position, TimedConv2d

_IMAGES = 2
_MAPS = {
    "embedding": ("e_t", "{layers} of e_t"),
    "sinusoid": ("s_t", "{layers} of s_t, the level's sinusoid"),
    "mlp": ("s_t", "{hidden}, SiLU, {layers} of s_t, the level's sinusoid"),
    "level": ("t", "{layers} of t / levels"),
}
"""What a positional map is made of: by `position_input`."""

Kind = Literal["convolution", "bias", "channel", "position"]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Addend:
    """One of the terms that a site adds up: with all its parameters at zero, so is the term."""

    kind: Kind
    expression: str
    made: str
    own: Tensors
    """By name: its parameters, or the slices of them that it takes."""
    shared: Tensors = field(default_factory=dict)
    """Those that other sites use too."""

    @property
    def tensors(self) -> Tensors:
        """All of them."""
        return {**self.own, **self.shared}


@dataclass(frozen=True)
class Site:
    """A sum of branches that a normalisation follows, in float64, on features of random images."""

    name: str
    count: int
    """Sites like it in the network."""
    prepared: str
    """How x is made."""
    x: Tensor
    """[B, C, H, W], what the convolution takes."""
    times: tuple[float, float]
    """The least and the greatest t."""
    convolve: Callable[[Tensor, Tensor], Tensor]
    """(t, x) to Z."""
    addends: list[Addend]
    norm_name: str
    norm: nn.Module

    def add(self, t: float) -> Tensor:
        """Z [B, C, H, W] at a time."""
        return self.convolve(torch.tensor(t, dtype=self.x.dtype), self.x)


def name_parameters(prefix: str, module: nn.Module | None) -> dict[str, Tensor]:
    """The parameters of a module by the names that they have in the network; none of none."""
    return {} if module is None else {f"{prefix}.{name}": value for name, value in module.named_parameters()}


def describe_layers(module: nn.Module) -> str:
    """What a module consists of: `Linear(1, 32), ReLU, Linear(32, 32)`."""
    if isinstance(module, nn.Linear):
        return f"Linear({module.in_features}, {module.out_features})"
    layers = list(module.children())
    return ", ".join(map(describe_layers, layers)) if layers else type(module).__name__


def _find_convolution(conv: nn.Conv2d | TimedConv2d, name: str, weight: Tensors) -> list[Addend]:
    """The convolution without t, and its bias."""
    assert conv.bias is not None
    outputs, inputs, height, width = next(iter(weight.values())).shape
    made = f"{height}x{width} convolution, {inputs} to {outputs} channels"
    return [
        Addend("convolution", "W̃ ∗ X", made, weight),
        Addend("bias", "b", "one number a channel", {f"{name}.bias": conv.bias}),
    ]


def _find_timed(conv: TimedConv2d, name: str, shared: nn.Sequential | None) -> list[Addend]:
    """ṽ_t of a site of the NODE study; none where it is not told the time so."""
    terms, made, own = [], [], {}
    if conv.concat:
        border = "" if conv.network.padding == "circular" else "; less of it at the zero-padded border"
        terms.append("t v")
        made.append(f"v: the kernel of the channel that is t, over ones{border}")
        own[f"{name}.weight[:, :1]"] = conv.weight[:, :1]
    if conv.v is not None:
        terms.append("t v")
        made.append("v: one number a channel")
        own[f"{name}.v"] = conv.v
    if conv.embed is not None:
        terms.append("MLP(t)")
        layers = [describe_layers(part) for part in (shared, conv.embed) if part is not None]
        made.append("MLP: " + ", ".join(layers))
        own |= name_parameters(f"{name}.embed", conv.embed)
    if not terms:
        return []
    of_both = name_parameters("field.shared_embed", shared)
    return [Addend("channel", f"ṽ_t = {' + '.join(terms)}", "; ".join(made), own, of_both)]


def _find_node_position(network: NodeClassifier) -> list[Addend]:
    """p̃_t of the first site of an ODE function, if there is one."""
    assert isinstance(network.field, OdeFunction)
    positions = network.field.positions
    if not positions:
        return []
    position = positions[0]
    assert isinstance(position, Position)
    parameters = name_parameters("field.positions.0", position)
    shared = network.network.position_sites == "shared"
    expression, made = "t p", "p: one number a pixel"
    if position.embed is not None:
        expression, made = "MLP(t)", f"MLP: {describe_layers(position.embed)}"
    if position.mean:
        made += "; its mean over pixels"
    own, of_both = ({}, parameters) if shared else (parameters, {})
    return [Addend("position", f"p̃_t = {expression}", made, own, of_both)]


@torch.no_grad()
def find_node_site(network: NodeClassifier) -> Site:
    """The first site of an ODE function; from here on its parameters are in float64. Random features are drawn."""
    ode = network.field
    assert isinstance(ode, OdeFunction)
    ode.double()
    conv, name = ode.conv1, "field.conv1"
    h = torch.randn(_IMAGES, ode_width(network.network), conv.size, conv.size, dtype=torch.float64)
    weight = {f"{name}.weight[:, 1:]": conv.weight[:, 1:]} if conv.concat else {f"{name}.weight": conv.weight}
    addends = [
        *_find_convolution(conv, name, weight),
        *_find_timed(conv, name, ode.shared_embed),
        *_find_node_position(network),
    ]
    return Site(
        name="field", count=sum(isinstance(part, TimedConv2d) for part in ode.modules()),
        prepared=f"{type(ode.activation).__name__}(norm1(h))", x=ode.activation(ode.norm1(h)), times=(0.0, 1.0),
        convolve=lambda t, x: ode.convolve(0, t, x), addends=addends, norm_name="field.norm2", norm=ode.norm2,
    )  # fmt: skip


def _find_map(network: UNet, block: ResidualBlock, name: str, embedding: Tensors) -> list[Addend]:
    """p̃_t of a block: from a map of its own, or one that blocks share; none without."""
    position: nn.Module | None = block.position
    own, shared = name_parameters(f"{name}.position", position), {}
    if position is None and network.positions:
        size = str(block.size) if str(block.size) in network.positions else str(network.image_size)
        position = network.positions[size]
        shared = name_parameters(f"positions.{size}", position)
    if position is None:
        return []
    assert isinstance(position, PositionMap)
    symbol, made = _MAPS[position.input]
    hidden = "" if position.hidden is None else describe_layers(position.hidden)
    made = made.format(layers=describe_layers(position.pixels), hidden=hidden)
    known = embedding if position.input == "embedding" else {}
    function = "MLP" if position.hidden is not None else "Linear"
    if position.mean:
        made += "; its mean over pixels"
    return [Addend("position", f"p̃_t = {function}({symbol})", made, own, {**shared, **known})]


@torch.no_grad()
def find_unet_site(network: UNet) -> Site:
    """The site of a U-Net's first residual block; what the site uses is in float64 from here on.

    t is the level. Random features are drawn.
    """
    block = network.list_blocks()[0]
    name = next(name for name, module in network.named_modules() if module is block)
    for module in (block, network.embed, network.positions):
        if module is not None:
            module.double()
    h = torch.randn(_IMAGES, block.conv1.in_channels, block.size, block.size, dtype=torch.float64)
    embedding = name_parameters("embed", network.embed)
    channel = []
    if block.time is not None:
        assert network.embed is not None
        layers = f"{describe_layers(block.time)} of e_t, the SiLU of {describe_layers(network.embed)}"
        own = name_parameters(f"{name}.time", block.time)
        channel = [Addend("channel", "ṽ_t = Linear(e_t)", f"{layers} of the level's sinusoid", own, embedding)]

    def convolve(t: Tensor, x: Tensor) -> Tensor:
        inputs = network.make_inputs(t.view(1))
        z: Tensor = block.conv1(x) + block.embed(inputs, network.make_shared_maps(inputs).get(block.size))
        return z

    return Site(
        name=name, count=len(network.list_blocks()), prepared="SiLU(norm1(h))",
        x=functional.silu(block.norm1(h)), times=(0.0, network.levels - 1.0), convolve=convolve,
        addends=[
            *_find_convolution(block.conv1, f"{name}.conv1", {f"{name}.conv1.weight": block.conv1.weight}),
            *channel,
            *_find_map(network, block, name, embedding),
        ],
        norm_name=f"{name}.norm2", norm=block.norm2,
    )  # fmt: skip
