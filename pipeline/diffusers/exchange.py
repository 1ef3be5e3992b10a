"""Models to and from diffusers, as commands: what was written, and what to write so that a folder becomes an arm."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.diffusers.exports import export_folder, write_scheduler
from pipeline.diffusers.imports import Folder, check_folder, convert_folder, fill_network, read_folder
from pipeline.schema.base import SpecError, validate
from pipeline.schema.project import load_project
from pipeline.studies.ddpm.study import TRAINED, DdpmNetwork, DdpmSpec, Import, resolve_ddpm_baseline, resolve_ddpm_run


def print_export(root: Path, dataset: str, arm: str, seed: int, step: int | None, out: Path) -> None:
    """Write one trained model for diffusers, and say what its format could not hold."""
    project = load_project(root)
    project.resolve("ddpm", dataset, arm, seed)
    sampling = project.ddpm.datasets[dataset].sampling
    source = export_folder(root / "runs" / "ddpm" / dataset / arm / str(seed), step, sampling, out)
    print(f"{source} -> {out}, for diffusers' DDPMPipeline.from_pretrained")
    print(f"sampled here in {sampling.steps} steps: num_inference_steps={sampling.steps}")
    if sampling.labels != "integer":
        print(f"labels: {sampling.labels} here; diffusers tells the network the integer level")
    if sampling.sampler != "ancestral":
        print(f"sampler: {sampling.sampler} here; the folder's scheduler is the ancestral one")


def derive_arm(folder: Folder, name: str, spec: DdpmSpec, dataset: str) -> tuple[str, DdpmNetwork]:
    """The arm whose network the folder is, and that network.

    Raises:
        SpecError: the name is taken or not allowed, or a field differs that no arm can express.
    """
    if name == TRAINED or name in spec.imports:
        raise SpecError(f"{name!r}: the name is taken; specs/ddpm.yaml has {', '.join([TRAINED, *spec.imports])}")
    baseline = resolve_ddpm_baseline(spec, dataset)
    network = fill_network(folder, baseline).model_copy(update={"weights": name})
    differing = {key: value for key, value in network if value != getattr(baseline, key)}
    if lists := [key for key, value in differing.items() if isinstance(value, list)]:
        told = "; ".join(f"{key} = {differing[key]}, not {getattr(baseline, key)}" for key in lists)
        raise SpecError(
            f"{folder.path}: {told}: no arm can say so, as a list is no value of an arm; "
            f"a dataset with this network in specs/ddpm.yaml can (--dataset)"
        )
    return ",".join(f"{key}={value}" for key, value in differing.items()), network


def print_import(root: Path, path: Path, name: str, dataset: str) -> None:
    """Check a folder against a dataset's baseline; print the entry of `imports` and the arm.

    Raises:
        ValueError: the folder is damaged, or of a network, noise or image that no arm of the dataset has.
    """
    project = load_project(root)
    spec = project.ddpm
    resolve_ddpm_baseline(spec, dataset)
    size, sampling = spec.datasets[dataset].training.image_size, spec.datasets[dataset].sampling
    folder = read_folder(path, size)
    name = f"{name}-{folder.sha256[:12]}"  # so that an arm says which weights it has
    arm, network = derive_arm(folder, name, spec, dataset)
    shown = path.resolve()
    if shown.is_relative_to(root.resolve()):
        shown = shown.relative_to(root.resolve())
    entry = validate(
        Import, {"folder": shown.as_posix(), "sha256": folder.sha256}, "specs/ddpm.yaml", f"imports.{name}"
    )
    extended = spec.model_copy(update={"imports": {**spec.imports, name: entry}})
    resolved = resolve_ddpm_run(extended, dataset, arm, 0).network
    assert resolved == network, f"{arm} is not the folder's network"
    check_folder(folder, resolved, spec.base.diffusion, project.data.datasets[dataset].channels, size)
    convert_folder(folder, resolved)
    print("# specs/ddpm.yaml; `imports: {}` makes way for it")
    print(_write_yaml({"imports": {name: entry.model_dump()}}), end="")
    print(f"# params.yaml: {dataset}.ddpm.arms")
    print(f'- "{arm}"')
    for line in _compare_sampling(folder.scheduler, write_scheduler(spec.base.diffusion, sampling)):
        print(line)


def _write_yaml(content: Any) -> str:
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000  # a long path stays on its line
    yaml.dump(content, stream)
    return stream.getvalue()


def _compare_sampling(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """What the folder's scheduler does in sampling that the study does not, as comments."""
    defaults = {"clip_sample": True, "variance_type": "fixed_small"}
    pairs = {key: (theirs.get(key, default), ours[key]) for key, default in defaults.items()}
    return [
        f"# {key}: {their!r} in the folder, {our!r} as this dataset is sampled here"
        for key, (their, our) in pairs.items()
        if their != our
    ]
