"""Finds the network that the command line names: a factory, a saved model, a run of ours, or a built-in one."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.audit.adapters import make_inputs
from pipeline.audit.builtin import BUILT_IN, make_built_in
from pipeline.audit.images import read_test_split
from pipeline.audit.library import import_diffusers
from pipeline.audit.subject import first_line, keep_randomness, unwrap
from pipeline.layers.foreign import make_network
from pipeline.run.foreign import import_factory
from pipeline.run.outputs import load_weights, read_weights
from pipeline.schema.base import SpecError, read_json
from pipeline.schema.diffusion import Diffusion
from pipeline.schema.mistakes import find_meant
from pipeline.schema.resolved import read_run
from pipeline.studies.ddpm.denoiser import make_denoiser
from pipeline.studies.ddpm.sampler import count_channels
from pipeline.studies.ddpm.snapshots import find_snapshots
from pipeline.studies.ddpm.study import DdpmRun
from pipeline.studies.ddpm.unet import UNet
from pipeline.studies.node.network import NodeClassifier
from pipeline.studies.node.study import NodeRun

_FORMS = "package.module:factory, diffusers:FOLDER, runs/STUDY/CASE/ARM/SEED"
_DIFFUSERS = "diffusers:"
_PARTS = ("unet", "transformer", "prior")
"""Folders of a saved pipeline that hold its network."""
_IMAGES = 2
_SHAPE = (1, 8)
"""Channels and side of the time test's images."""


@dataclass(frozen=True)
class Target:
    """A network and what it is called with."""

    network: Any
    inputs: Any
    loss: str | None = None
    """Under which it was trained, where that is known."""
    batches: list[Tensor] | None = None
    """Images of its test split, where they are there."""


def _refuse(target: str) -> SpecError:
    return SpecError(
        f"{target!r} names no network{find_meant(target, BUILT_IN)}; allowed are {_FORMS}, {', '.join(BUILT_IN)}"
    )


def _split(made: Any) -> Target:
    """A module, or a module and its inputs."""
    if isinstance(made, tuple) and len(made) == 2 and not isinstance(made, nn.Module):
        return Target(*made)
    return Target(made, make_inputs(unwrap(made)))


def load_factory(target: str) -> Target:
    """What `package.module:factory` returns, with the same random numbers each time.

    A factory of an arm or of the time test, which needs `channels` or `image_size`, gets the time test's images.

    Raises:
        SpecError: there is no such factory, or it fails.
    """
    factory = import_factory(target)
    if isinstance(factory, nn.Module):
        return _split(factory)
    with keep_randomness():
        torch.manual_seed(0)
        try:
            needed = {key for key, value in signature(factory).parameters.items() if value.default is Parameter.empty}
            if not {"channels", "image_size"} & needed:
                return _split(factory())
            channels, size = _SHAPE
            return Target(make_network(factory, target, channels, size), torch.randn(_IMAGES, channels, size, size))
        except SpecError:
            raise
        except (Exception, SystemExit) as error:
            raise SpecError(f"{target}: {type(error).__name__}: {first_line(error)}") from error


def load_diffusers(folder: Path) -> Target:
    """A model that diffusers saved, or the network of a saved pipeline.

    Raises:
        SpecError: it is none, or its weights are no safetensors.
    """
    folder = next((folder / part for part in _PARTS if (folder / part / "config.json").is_file()), folder)
    path = folder / "config.json"
    if not path.is_file():
        raise SpecError(f"{path}: not there; a folder that save_pretrained wrote is needed")
    config = read_json(path, str(path))
    name = config.get("_class_name") if isinstance(config, dict) else None
    if not any(folder.glob("*.safetensors")):
        raise SpecError(f"{folder}: no safetensors file; pickles, which could run any code, are not read")
    library = import_diffusers()
    kind = getattr(library, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise SpecError(f"{path}: _class_name = {name!r}: no network of diffusers")
    try:
        network = kind.from_pretrained(  # type: ignore[attr-defined]
            str(folder), use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
    except Exception as error:
        raise SpecError(f"{folder}: {first_line(error)}") from error
    return Target(network, make_inputs(network))


def _load_unet(folder: Path) -> Target:
    run, _ = read_run(folder / "run.json", DdpmRun)
    if not (found := find_snapshots(folder)):
        raise SpecError(f"{folder}: no averaged weights; `dvc repro` trains and `dvc pull` fetches models")
    channels, size = count_channels(folder), run.training.image_size
    network = make_denoiser(run, channels).eval()
    load_weights(list(found.values())[-1], network)
    standard = run.diffusion == Diffusion() and run.training.parametrisation == "noise"
    loss = "ddpm" if standard else None
    batches = read_test_split(Path(*folder.parts[:-5]), run.case) if standard else None
    if not isinstance(network, UNet):
        inputs = {"x": torch.randn(_IMAGES, channels, size, size), "level": torch.zeros(_IMAGES)}
        return Target(network, inputs, loss, batches)
    return Target(network, make_inputs(network), loss, batches)


def _load_field(folder: Path) -> Target:
    """The ODE function of a classifier, on features of images of noise."""
    run, _ = read_run(folder / "run.json", NodeRun)
    path, size = folder / "best.safetensors", run.training.image_size
    weights = read_weights(path)
    channels, classes = weights["stem.0.weight"].shape[1], len(weights["head.5.bias"])
    network = NodeClassifier(run.network, channels, size, classes).eval()
    load_weights(path, network)
    if network.field is None:
        raise SpecError(f"{folder}: block = {run.network.block!r}: this network takes no time")
    with torch.no_grad():
        x = network.extract(torch.randn(_IMAGES, channels, size, size))
    return Target(network.field, {"t": torch.tensor(0.0), "x": x})


_STUDIES = {"ddpm": _load_unet, "node": _load_field}


def load_run(folder: Path) -> Target:
    """A trained model of ours.

    Raises:
        SpecError: it is not there, is damaged, or has no network.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise SpecError(f"{path}: not there; `dvc repro` trains it, if params.yaml lists it")
    content = read_json(path, str(path))
    study = content.get("run", {}).get("study") if isinstance(content, Mapping) else None
    if study not in _STUDIES:
        raise SpecError(f"{path}: study = {study!r}: allowed are {', '.join(_STUDIES)}")
    with torch.random.fork_rng(()):
        torch.manual_seed(0)
        return _STUDIES[study](folder)


def load_target(root: Path, target: str) -> Target:
    """The network that a target names.

    Raises:
        SpecError: there is none, or it cannot be loaded.
    """
    if target in BUILT_IN:
        return Target(*make_built_in(target))
    if target.startswith(_DIFFUSERS):
        return load_diffusers(root / target.removeprefix(_DIFFUSERS))
    if target.startswith("runs/") or (root / target / "run.json").is_file():
        return load_run(root / target)
    if ":" in target and all(target.split(":", 1)):
        return load_factory(target)
    raise _refuse(target)
