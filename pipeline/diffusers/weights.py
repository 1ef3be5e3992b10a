"""The same U-Net under two sets of names: ours, and those of diffusers' UNet2DModel.

The map follows from the network's structure, so it holds for every size. Nothing here needs diffusers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.studies.ddpm.study import DdpmNetwork

_RESIDUAL = {"norm1": "norm1", "conv1": "conv1", "time": "time_emb_proj", "norm2": "norm2", "conv2": "conv2"}
_ATTENTION = {"norm": "group_norm", "query": "to_q", "key": "to_k", "value": "to_v", "project": "to_out.0"}
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""What diffusers called them before 0.15; it reads these names still, and its oldest checkpoints have them."""


@dataclass(frozen=True)
class Layer:
    """One layer with a weight and a bias. The shapes are the weight's, ours and theirs."""

    ours: str
    theirs: str
    shape: tuple[int, ...]
    their_shape: tuple[int, ...]


@dataclass(frozen=True)
class Absent:
    """An attention of UNet2DModel that ours lacks, and one of the same width that ours has; names as theirs."""

    theirs: str
    twin: str


def attention_levels(network: DdpmNetwork, image_size: int) -> list[bool]:
    """Whether there is attention, resolution by resolution, the largest first."""
    return [image_size // 2**index in network.attention_sizes for index in range(len(network.channel_multipliers))]


def _norm(ours: str, theirs: str, channels: int) -> Layer:
    return Layer(ours, theirs, (channels,), (channels,))


def _linear(ours: str, theirs: str, features_in: int, features_out: int) -> Layer:
    return Layer(ours, theirs, (features_out, features_in), (features_out, features_in))


def _conv(ours: str, theirs: str, channels_in: int, channels_out: int, kernel: int = 3) -> Layer:
    shape = (channels_out, channels_in, kernel, kernel)
    return Layer(ours, theirs, shape, shape)


def _residual(ours: str, theirs: str, channels_in: int, channels_out: int, embedding: int) -> Iterator[Layer]:
    names = {part: (f"{ours}.{part}", f"{theirs}.{name}") for part, name in _RESIDUAL.items()}
    yield _norm(*names["norm1"], channels_in)
    yield _conv(*names["conv1"], channels_in, channels_out)
    yield _linear(*names["time"], embedding, channels_out)
    yield _norm(*names["norm2"], channels_out)
    yield _conv(*names["conv2"], channels_out, channels_out)
    if channels_in != channels_out:
        yield _conv(f"{ours}.shortcut", f"{theirs}.conv_shortcut", channels_in, channels_out, 1)


def _attention(ours: str, theirs: str, channels: int) -> Iterator[Layer]:
    for part, name in _ATTENTION.items():
        if part == "norm":
            yield _norm(f"{ours}.{part}", f"{theirs}.{name}", channels)
        else:  # a 1x1 convolution here, a linear layer there
            matrix = (channels, channels)
            yield Layer(f"{ours}.{part}", f"{theirs}.{name}", (*matrix, 1, 1), matrix)


def walk_layers(network: DdpmNetwork, image_channels: int, image_size: int) -> Iterator[Layer | Absent]:
    """Every layer of UNet2DModel, in the order of our U-Net's modules."""
    channels, blocks = network.channels, network.blocks
    embedding = 4 * channels
    widths = [channels * multiplier for multiplier in network.channel_multipliers]
    attends = attention_levels(network, image_size)
    yield _linear("embed.0", "time_embedding.linear_1", channels, embedding)
    yield _linear("embed.2", "time_embedding.linear_2", embedding, embedding)
    yield _conv("conv_in", "conv_in", image_channels, channels)

    entry, skips, h = 0, [channels], channels
    for level, width in enumerate(widths):
        theirs = f"down_blocks.{level}"
        for step in range(blocks):
            yield from _residual(f"down.{entry}.0", f"{theirs}.resnets.{step}", h, width, embedding)
            if attends[level]:
                yield from _attention(f"down.{entry}.1", f"{theirs}.attentions.{step}", width)
            h = width
            skips.append(h)
            entry += 1
        if level < len(widths) - 1:
            yield _conv(f"down.{entry}.0.conv", f"{theirs}.downsamplers.0.conv", h, h)
            skips.append(h)
            entry += 1

    yield from _residual("middle.0", "mid_block.resnets.0", h, h, embedding)
    yield from _attention("middle.1", "mid_block.attentions.0", h)
    yield from _residual("middle.2", "mid_block.resnets.1", h, h, embedding)

    entry = 0
    for position, level in enumerate(reversed(range(len(widths)))):
        theirs, width = f"up_blocks.{position}", widths[level]
        for step in range(blocks + 1):
            last, part = step == blocks, 1
            yield from _residual(f"up.{entry}.0", f"{theirs}.resnets.{step}", h + skips.pop(), width, embedding)
            h = width
            if attends[level] and (last or network.up_attention == "each"):
                yield from _attention(f"up.{entry}.{part}", f"{theirs}.attentions.{step}", width)
                part += 1
            elif attends[level]:
                yield Absent(f"{theirs}.attentions.{step}", f"{theirs}.attentions.{blocks}")
            if last and level > 0:
                yield _conv(f"up.{entry}.{part}.conv", f"{theirs}.upsamplers.0.conv", h, h)
            entry += 1
    yield _norm("norm_out", "conv_norm_out", h)
    yield _conv("conv_out", "conv_out", h, image_channels)


def _image_channels(weights: Mapping[str, Tensor]) -> int:
    return weights["conv_in.weight"].shape[1]


def to_diffusers(weights: Mapping[str, Tensor], network: DdpmNetwork, image_size: int) -> dict[str, Tensor]:
    """Our weights as UNet2DModel's.

    An attention that ours lacks (up_attention=last) gets a projection of zero, with which it changes nothing; the rest
    of it is a copy of the attention at the end of its resolution.
    """
    found: dict[str, Tensor] = {}
    absent = []
    for layer in walk_layers(network, _image_channels(weights), image_size):
        if isinstance(layer, Absent):
            absent.append(layer)
            continue
        found[f"{layer.theirs}.weight"] = weights[f"{layer.ours}.weight"].reshape(layer.their_shape)
        found[f"{layer.theirs}.bias"] = weights[f"{layer.ours}.bias"]
    for attention in absent:
        for name in _ATTENTION.values():
            for kind in ("weight", "bias"):
                twin = found[f"{attention.twin}.{name}.{kind}"]
                value = torch.zeros_like(twin) if name == _ATTENTION["project"] else twin.clone()
                found[f"{attention.theirs}.{name}.{kind}"] = value
    return found


def modernise_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Attentions under the names that diffusers gives them today."""
    renamed = {}
    for name, value in weights.items():
        head, _, kind = name.rpartition(".")
        for new, old in _OLD_ATTENTION.items():
            if ".attentions." in name and head.endswith(f".{old}"):
                name = f"{head.removesuffix(old)}{new}.{kind}"
        renamed[name] = value
    return renamed


def lacks_attention(weights: Mapping[str, Tensor], network: DdpmNetwork, image_size: int) -> bool:
    """Whether UNet2DModel's weights are those of up_attention=last: the other attentions there add zero."""
    one = network.model_copy(update={"up_attention": "last"})
    names = [part.theirs for part in walk_layers(one, 1, image_size) if isinstance(part, Absent)]
    project = [f"{name}.{_ATTENTION['project']}.{kind}" for name in names for kind in ("weight", "bias")]
    return bool(names) and all(name in weights and not weights[name].any() for name in project)


def from_diffusers(
    weights: Mapping[str, Tensor], network: DdpmNetwork, image_channels: int, image_size: int
) -> dict[str, Tensor]:
    """UNet2DModel's weights as ours; float32.

    Raises:
        ValueError: a tensor is missing, is there without need, or has another shape or kind; an attention that the
            network lacks changes something.
    """
    rest = modernise_names(weights)
    lacking = network.up_attention == "last" and any(attention_levels(network, image_size))
    if lacking and not lacks_attention(rest, network, image_size):
        raise ValueError("up_attention = 'last': these weights have an attention after each block")
    found: dict[str, Tensor] = {}
    for layer in walk_layers(network, image_channels, image_size):
        if isinstance(layer, Absent):
            for name in _ATTENTION.values():
                for kind in ("weight", "bias"):
                    rest.pop(f"{layer.theirs}.{name}.{kind}", None)
            continue
        for kind in ("weight", "bias"):
            name, shape = f"{layer.theirs}.{kind}", layer.their_shape if kind == "weight" else layer.shape[:1]
            if name not in rest:
                raise ValueError(f"{name}: this tensor is missing")
            value = rest.pop(name)
            if value.shape != shape:
                raise ValueError(f"{name}: shape {list(value.shape)}; the network needs {list(shape)}")
            if not (value.is_floating_point() and value.isfinite().all()):
                raise ValueError(f"{name}: a number in it is not finite, or it holds {value.dtype}")
            found[f"{layer.ours}.{kind}"] = value.float().reshape(layer.shape if kind == "weight" else shape)
    if rest:
        raise ValueError(f"{min(rest)}: this tensor is of no layer of the network")
    return found
