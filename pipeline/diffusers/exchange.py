"""Models to and from diffusers, as commands: what was written, and what to write so that a folder becomes an arm."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.diffusers.exports import export_folder, write_scheduler
from pipeline.diffusers.imports import Folder, check_folder, convert_folder, fill_network, read_folder
from pipeline.schema.arm import list_fields
from pipeline.schema.base import SpecError, validate
from pipeline.schema.diffusion import Sampling
from pipeline.schema.project import load_project
from pipeline.schema.study import resolve_baseline, resolve_later, resolve_run, spec_file
from pipeline.studies.ddpm.study import STUDY, TRAINED, DdpmNetwork, DdpmRun, DdpmSpec, Import

_FILE = spec_file(STUDY.name)


def print_export(root: Path, case: str, arm: str, seed: int, step: int | None, out: Path) -> None:
    """Write one trained model for diffusers, and say what its format could not hold."""
    project = load_project(root)
    run, sampling = project.resolve(STUDY.name, case, arm, seed), project.later(STUDY.name, case)["sampling"]
    assert isinstance(run, DdpmRun) and isinstance(sampling, Sampling)
    if run.network.denoiser is not None:
        raise SpecError(f"{run.name}: {run.network.denoiser} is no network of ours: diffusers has no class for it")
    for name, value in (("magnitude", run.network.magnitude), ("parametrisation", run.training.parametrisation)):
        if value not in ("none", "noise"):
            raise SpecError(f"{run.name}: {name} = {value}: this cannot be written for diffusers")
    source = export_folder(root / "runs" / run.name, step, sampling, out)
    print(f"{source} -> {out}, for diffusers' DDPMPipeline.from_pretrained")
    print(f"sampled here in {sampling.steps} steps: num_inference_steps={sampling.steps}")
    if sampling.labels != "integer":
        print(f"labels: {sampling.labels} here; diffusers passes the integer level to the network")
    if sampling.sampler != "ancestral":
        print(f"sampler: {sampling.sampler} here; the folder's scheduler is the ancestral one")


def derive_arm(folder: Folder, name: str, spec: DdpmSpec, case: str) -> tuple[str, DdpmNetwork]:
    """The arm whose network the folder is, and that network.

    Raises:
        SpecError: the name is taken or not allowed, or a field differs that no arm can express.
    """
    if name == TRAINED or name in spec.imports:
        raise SpecError(f"{name!r}: the name is taken; {_FILE} has {', '.join([TRAINED, *spec.imports])}")
    run = resolve_baseline(STUDY, spec, case)
    assert isinstance(run, DdpmRun)
    baseline = run.network
    network = fill_network(folder, baseline).model_copy(update={"weights": name})
    differing = {key: value for key, value in network if value != getattr(baseline, key)}
    if lists := [key for key in differing if key not in list_fields(DdpmRun)]:
        told = "; ".join(f"{key} = {differing[key]}, not {getattr(baseline, key)}" for key in lists)
        raise SpecError(
            f"{folder.path}: {told}: no arm can say so, as a list is no value of an arm; "
            f"a case with this network in {_FILE} can (--case)"
        )
    return ",".join(f"{key}={value}" for key, value in differing.items()), network


def print_import(root: Path, path: Path, name: str, case: str) -> None:
    """Check a folder against a case's baseline; print the entry of `imports` and the arm.

    Raises:
        ValueError: the folder is damaged, or of a network, noise or image that no arm of the case has.
    """
    project = load_project(root)
    spec = project.specs[STUDY.name]
    assert isinstance(spec, DdpmSpec)
    baseline, sampling = resolve_baseline(STUDY, spec, case), resolve_later(STUDY, spec, case)["sampling"]
    assert isinstance(baseline, DdpmRun) and isinstance(sampling, Sampling)
    size = baseline.training.image_size
    folder = read_folder(path, size)
    name = f"{name}-{folder.sha256[:12]}"  # so that an arm says which weights it has
    arm, network = derive_arm(folder, name, spec, case)
    shown = path.resolve()
    if shown.is_relative_to(root.resolve()):
        shown = shown.relative_to(root.resolve())
    entry = validate(Import, {"folder": shown.as_posix(), "sha256": folder.sha256}, _FILE, f"imports.{name}")
    extended = spec.model_copy(update={"imports": {**spec.imports, name: entry}})
    run, _ = resolve_run(STUDY, extended, case, arm, 0)
    assert isinstance(run, DdpmRun) and run.network == network, f"{arm} is not the folder's network"
    check_folder(folder, network, run.diffusion, project.data.datasets[case].channels, size)
    convert_folder(folder, network)
    print(f"# {_FILE}; `imports: {{}}` makes way for it")
    print(_write_yaml({"imports": {name: entry.model_dump()}}), end="")
    print(f"# params.yaml: {STUDY.name}.{case}.arms")
    print(f'- "{arm}"')
    for line in _compare_sampling(folder.scheduler, write_scheduler(run.diffusion, sampling)):
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
        f"# {key}: {their!r} in the folder, {our!r} as this case is sampled here"
        for key, (their, our) in pairs.items()
        if their != our
    ]
