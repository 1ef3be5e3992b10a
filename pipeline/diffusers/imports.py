"""Weights from elsewhere: a folder as diffusers' DDPMPipeline saves it, read without diffusers and without pickle."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pipeline.diffusers.config import Structure, check_expressible, read_config
from pipeline.diffusers.weights import attention_levels, from_diffusers, lacks_attention, modernise_names
from pipeline.schema.base import validate
from pipeline.schema.diffusion import Diffusion
from pipeline.studies.ddpm.study import DdpmNetwork, Import

WEIGHTS, CONFIG, SCHEDULER = "diffusion_pytorch_model.safetensors", "config.json", "scheduler_config.json"
_SCHEDULERS = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")  # one family: the same keys, the same noise
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class Folder:
    """What such a folder holds."""

    path: Path
    structure: Structure
    weights: dict[str, Tensor]
    """As UNet2DModel names them."""
    sha256: str
    """Of the file of weights."""
    scheduler: dict[str, Any]


def _find(folder: Path, part: str, name: str) -> Path:
    """A file of a part of the pipeline; the oldest folders have all parts in one place, as diffusers allows."""
    return (folder / part if (folder / part).is_dir() else folder) / name


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: the file is missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a mapping of keys")
    return content


def _read_weights(path: Path, sha256: str | None) -> tuple[dict[str, Tensor], str]:
    """The tensors and the checksum of the very bytes that they are made of."""
    if not path.is_file():
        beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
        if pickles := [file.name for file in beside if file.suffix in _PICKLES]:
            raise ValueError(
                f"{path.parent / pickles[0]}: a pickle, which could run any code, is not read; convert it where you "
                "trust it: UNet2DModel.from_pretrained(...).save_pretrained(..., safe_serialization=True)"
            )
        if [file for file in beside if file.name.endswith(".safetensors.index.json")]:
            raise ValueError(f"{path.parent}: the weights are in several files; save them as one {WEIGHTS}")
        raise ValueError(f"{path}: the file is missing")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise ValueError(f"{path}: sha256 is {found}, expected {sha256}: another file, or a damaged one")
    try:
        return safetensors.torch.load(content), found
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: not safetensors: {str(error).splitlines()[0]}") from None


def read_folder(folder: Path, image_size: int, sha256: str | None = None) -> Folder:
    """Read a folder; its file of weights is used only if it has the checksum.

    `fill_network` says what it is of; `check_folder` and `convert_folder` compare it with a network.

    Args:
        image_size: pixels a side, where the configuration leaves it open.
        sha256: of the file of weights; None: not known yet.

    Raises:
        ValueError: a file is missing, damaged, not the expected one, or describes what our U-Net cannot be.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    config, scheduler = _find(folder, "unet", CONFIG), _find(folder, "scheduler", SCHEDULER)
    try:
        structure = read_config(_read_json(config), image_size)
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(str(config)) else f"{config}: {error}") from None
    weights, found = _read_weights(_find(folder, "unet", WEIGHTS), sha256)
    weights = modernise_names(weights)
    return Folder(folder, structure, weights, found, _read_json(scheduler))


def fill_network(folder: Folder, like: DdpmNetwork) -> DdpmNetwork:
    """The folder's network; fields on which it is silent, or which have no effect in it, are those of `like`.

    Raises:
        ValueError: the fields do not go together.
    """
    structure = folder.structure
    where = str(_find(folder.path, "unet", CONFIG))
    network = validate(DdpmNetwork, {**like.model_dump(), **structure.fields}, where)
    attends = attention_levels(network, structure.image_size)
    if attends == attention_levels(like, structure.image_size):  # sizes that do not occur are no difference
        network = network.model_copy(update={"attention_sizes": like.attention_sizes})
    if network.groups == like.groups == like.outer_groups:
        network = network.model_copy(update={"groups_scope": like.groups_scope})
    if not any(attends):
        return network.model_copy(update={"up_attention": like.up_attention})
    last = lacks_attention(folder.weights, network, structure.image_size)
    return network.model_copy(update={"up_attention": "last" if last else "each"})


def check_scheduler(scheduler: Mapping[str, Any], diffusion: Diffusion) -> None:
    """Refuse weights that were trained on another noise than the study's.

    Raises:
        ValueError: the first key that differs.
    """
    name = scheduler.get("_class_name")
    if name not in _SCHEDULERS:
        raise ValueError(f"_class_name = {name!r}: allowed are {', '.join(_SCHEDULERS)}")
    wanted: dict[str, tuple[Any, Any]] = {  # ours, and what the schedulers take where nothing is written
        "num_train_timesteps": (diffusion.levels, 1000),
        "beta_schedule": ("linear", "linear"),
        "beta_start": (diffusion.beta_min / diffusion.levels, 1e-4),
        "beta_end": (diffusion.beta_max / diffusion.levels, 0.02),
        "trained_betas": (None, None),
        "prediction_type": ("epsilon", "epsilon"),
        "rescale_betas_zero_snr": (False, False),
    }
    for key, (ours, default) in wanted.items():
        value = scheduler.get(key, default)
        close = isinstance(value, float) and isinstance(ours, float) and math.isclose(value, ours, rel_tol=1e-6)
        if value != ours and not close:
            raise ValueError(f"{key} = {value!r}: the study has {ours!r}")


def check_folder(folder: Folder, network: DdpmNetwork, diffusion: Diffusion, channels: int, size: int) -> None:
    """Refuse a folder that is not this network on these images; up_attention is left to the weights.

    Raises:
        ValueError: the first field that differs.
    """
    structure, where = folder.structure, _find(folder.path, "unet", CONFIG)
    check_expressible(network)
    filled = fill_network(folder, network)
    pairs = {name: (getattr(filled, name), getattr(network, name)) for name in structure.fields}
    pairs |= {"image_channels": (structure.image_channels, channels), "image_size": (structure.image_size, size)}
    for name, (theirs, ours) in pairs.items():
        if theirs != ours and name != "up_attention":
            raise ValueError(f"{where}: {name} = {theirs!r}; the arm's network has {ours!r}")
    try:
        check_scheduler(folder.scheduler, diffusion)
    except ValueError as error:
        raise ValueError(f"{_find(folder.path, 'scheduler', SCHEDULER)}: {error}") from None


def convert_folder(folder: Folder, network: DdpmNetwork) -> dict[str, Tensor]:
    """The folder's weights under our U-Net's names, float32.

    Raises:
        ValueError: they are not this network's.
    """
    structure = folder.structure
    try:
        return from_diffusers(folder.weights, network, structure.image_channels, structure.image_size)
    except ValueError as error:
        raise ValueError(f"{_find(folder.path, 'unet', WEIGHTS)}: {error}") from None


def convert_import(
    entry: Import, network: DdpmNetwork, diffusion: Diffusion, image_channels: int, image_size: int, root: Path
) -> dict[str, Tensor]:
    """The weights of an arm that takes them from elsewhere, for `UNet.load_state_dict`; float32, on the CPU.

    Args:
        entry: which folder, and its checksum.
        root: the project, to which the folder is relative.

    Raises:
        ValueError: the folder is not there, not the expected one, or is of another network, noise or image.
    """
    folder = read_folder(root / entry.folder, image_size, entry.sha256)
    check_folder(folder, network, diffusion, image_channels, image_size)
    return convert_folder(folder, network)
