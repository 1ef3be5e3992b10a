"""A U-Net of ours as the configuration of diffusers' UNet2DModel, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.diffusers.weights import attention_levels
from pipeline.studies.ddpm.study import DdpmNetwork

CLASS = "UNet2DModel"
_FIXED: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "add_attention": (True,),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "downsample_padding": (0,),
    "downsample_type": ("conv",),
    "flip_sin_to_cos": (False,),
    "freq_shift": (1,),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "norm_eps": (1e-6,),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_type": ("positional",),
    "upsample_type": ("conv",),
}
"""What our U-Net is in every case, the spelling that we write first."""
_DEFAULTS: dict[str, Any] = {
    "act_fn": "silu",
    "add_attention": True,
    "attention_head_dim": 8,
    "attn_norm_num_groups": None,
    "block_out_channels": [224, 448, 672, 896],
    "center_input_sample": False,
    "class_embed_type": None,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "downsample_padding": 1,
    "downsample_type": "conv",
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2D",
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "num_class_embeds": None,
    "num_train_timesteps": None,
    "out_channels": 3,
    "resnet_time_scale_shift": "default",
    "sample_size": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "upsample_type": "conv",
}
"""What UNet2DModel takes where a configuration is silent; diffusers 0.42."""


@dataclass(frozen=True)
class Structure:
    """What a configuration of UNet2DModel says about the U-Net and its images."""

    fields: dict[str, Any]
    """Fields of `DdpmNetwork`; without those that only a training sees. up_attention is the configuration's, `each`."""
    image_channels: int
    image_size: int


def check_expressible(network: DdpmNetwork) -> None:
    """Refuse what UNet2DModel has no place for.

    Raises:
        ValueError: a field, and what it would have to be.
    """
    if network.position != "none":
        raise ValueError(f"position = {network.position!r}: diffusers' {CLASS} has no positional timestep embedding")
    if network.time != "embedding":
        raise ValueError(f"time = {network.time!r}: diffusers' {CLASS} adds a timestep embedding at every site")
    if network.norm != "group":
        raise ValueError(f"norm = {network.norm!r}: diffusers' {CLASS} has group normalisation")
    if network.groups_scope != "all" and network.groups != network.outer_groups:
        raise ValueError(f"groups_scope = {network.groups_scope!r}: diffusers' {CLASS} has one number of groups")
    if network.channel_multipliers[0] != 1:
        raise ValueError(
            f"channel_multipliers = {network.channel_multipliers}: diffusers' {CLASS} begins with a multiple of 1"
        )


def write_config(network: DdpmNetwork, image_channels: int, image_size: int) -> dict[str, Any]:
    """The configuration of UNet2DModel that is this network.

    Raises:
        ValueError: there is none.
    """
    check_expressible(network)
    attends = attention_levels(network, image_size)
    return {
        "_class_name": CLASS,
        **_DEFAULTS,
        **{key: allowed[0] for key, allowed in _FIXED.items()},
        "attention_head_dim": None,  # one head
        "block_out_channels": [network.channels * multiplier for multiplier in network.channel_multipliers],
        "down_block_types": ["AttnDownBlock2D" if attention else "DownBlock2D" for attention in attends],
        "dropout": network.dropout,
        "in_channels": image_channels,
        "layers_per_block": network.blocks,
        "norm_num_groups": network.groups,
        "out_channels": image_channels,
        "sample_size": image_size,
        "up_block_types": ["AttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(attends)],
    }


def _whole(config: Mapping[str, Any], key: str) -> int:
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key} = {value!r}: a whole number from 1 is needed")
    return value


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(type(entry) is kind for entry in value)


def _read_widths(config: Mapping[str, Any]) -> list[int]:
    widths = config["block_out_channels"]
    if not _is_list(widths, int) or widths[0] < 1 or any(width < 1 or width % widths[0] for width in widths):
        raise ValueError(f"block_out_channels = {widths!r}: multiples of the first are needed")
    return list(widths)


def _read_attention(config: Mapping[str, Any], widths: list[int]) -> list[bool]:
    """Whether there is attention, resolution by resolution, the largest first."""
    kinds: dict[str, list[bool]] = {}
    for way in ("Down", "Up"):
        key, types = f"{way.lower()}_block_types", {f"{way}Block2D": False, f"Attn{way}Block2D": True}
        value = config[key]
        if not _is_list(value, str) or any(entry not in types for entry in value):
            raise ValueError(f"{key} = {value!r}: our U-Net has {' and '.join(types)} only")
        if len(value) != len(widths):
            raise ValueError(f"{key} = {value!r}: block_out_channels has {len(widths)} entries")
        kinds[way] = [types[entry] for entry in value]
    down, up = kinds["Down"], kinds["Up"][::-1]
    if down != up:
        raise ValueError(f"up_block_types = {config['up_block_types']!r}: attention is not where it is on the way down")
    return down


def _read_size(config: Mapping[str, Any], image_size: int, levels: int) -> int:
    value = config["sample_size"]
    if _is_list(value, int) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    size = image_size if value is None else _whole({"sample_size": value}, "sample_size")
    if size % 2 ** (levels - 1):
        raise ValueError(f"sample_size = {size}: not divisible by {2 ** (levels - 1)}, the U-Net's total stride")
    return size


def _check_heads(config: Mapping[str, Any], widths: list[int], attends: list[bool]) -> None:
    head, groups = config["attention_head_dim"], config["attn_norm_num_groups"]
    attended = {width for width, attention in zip(widths, attends, strict=True) if attention} | {widths[-1]}
    if head is not None and attended != {head}:
        raise ValueError(f"attention_head_dim = {head!r}: our attention has a single head; null is needed")
    if groups not in (None, config["norm_num_groups"]):
        raise ValueError(f"attn_norm_num_groups = {groups!r}: norm_num_groups = {config['norm_num_groups']!r}")
    if config["time_embedding_dim"] not in (None, 4 * widths[0]):
        raise ValueError(f"time_embedding_dim = {config['time_embedding_dim']!r}: {4 * widths[0]} is needed")


def read_config(config: Mapping[str, Any], image_size: int) -> Structure:
    """The network that a configuration describes.

    Args:
        image_size: pixels a side, where the configuration leaves it open.

    Raises:
        ValueError: our U-Net cannot be that; the line names the first key and its value.
    """
    if config.get("_class_name") != CLASS:
        raise ValueError(f"_class_name = {config.get('_class_name')!r}: only {CLASS} can be read")
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    if unknown := [key for key in given if key not in _DEFAULTS]:
        raise ValueError(f"{unknown[0]} = {given[unknown[0]]!r}: not a key of {CLASS} that is known here")
    config = {**_DEFAULTS, **given}
    for key, allowed in _FIXED.items():
        value = config[key]
        if not any(value == right and isinstance(value, bool) == isinstance(right, bool) for right in allowed):
            written = "" if key in given else " (the default where it is not written)"
            raise ValueError(f"{key} = {value!r}{written}: our U-Net has {allowed[0]!r}")
    widths = _read_widths(config)
    attends = _read_attention(config, widths)
    _check_heads(config, widths, attends)
    channels, size = _whole(config, "in_channels"), _read_size(config, image_size, len(widths))
    if config["out_channels"] != channels:
        raise ValueError(f"out_channels = {config['out_channels']!r}: as many as in_channels = {channels} are needed")
    fields = {
        "position": "none",
        "groups": _whole(config, "norm_num_groups"),
        "groups_scope": "all",
        "up_attention": "each",
        "channels": widths[0],
        "channel_multipliers": [width // widths[0] for width in widths],
        "blocks": _whole(config, "layers_per_block"),
        "attention_sizes": [size // 2**level for level, attention in enumerate(attends) if attention],
        "time": "embedding",
        "norm": "group",
    }
    return Structure(fields, channels, size)
