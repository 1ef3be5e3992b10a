"""Averages of a trained model's weights over any length, made of the stored ones: post-hoc EMA."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pipeline.diffusion.power_average import (
    TRACKED,
    Profile,
    combine_averages,
    find_exponent,
    fit_profile,
    predict_error,
)
from pipeline.run.outputs import read_weights, write_weights
from pipeline.schema.base import SpecError
from pipeline.schema.resolved import read_run
from pipeline.studies.ddpm.snapshots import find_snapshots, name_stored
from pipeline.studies.ddpm.study import STUDY, DdpmRun


def _require_power(root: Path, name: str) -> Path:
    """The folder of a run that stored power-function averages.

    Raises:
        SpecError: there is no such run, it failed, or it stored none.
    """
    folder = root / "runs" / name
    if not (folder / "run.json").is_file():
        raise SpecError(f"runs/{name}: no trained run; a name is STUDY/CASE/ARM/SEED, as ddpm/digits/ema=power/0")
    if name.split("/")[0] != STUDY.name:
        raise SpecError(f"runs/{name}: only runs of {STUDY.name} store averages, those of arms with ema=power")
    run, _ = read_run(folder / "run.json", DdpmRun)
    if run.training.ema != "power":
        raise SpecError(f"runs/{name}: ema = {run.training.ema} stores no lengths; an arm with ema=power does")
    if not find_snapshots(folder):
        raise SpecError(f"runs/{name}: the run failed, or has imported weights: there are no averages")
    return folder


def average_run(folder: Path, length: float) -> tuple[dict[str, Tensor], float]:
    """The average of a length after the last step of a training, and the relative error that its profile predicts.

    Raises:
        ValueError: the length is not between 0 and 0.2887.
    """
    *others, sampled = TRACKED
    profiles, averages = list[Profile](), list[Mapping[str, Tensor]]()
    for step, path in find_snapshots(folder).items():
        files = {sampled: path} | {other: folder / name_stored(other, step) for other in others}
        profiles += [Profile(step, find_exponent(stored)) for stored in files]
        averages += [read_weights(file) for file in files.values()]
    wanted = Profile(profiles[-1].step, find_exponent(length))
    factors = fit_profile(profiles, wanted)
    return combine_averages(averages, factors), predict_error(profiles, wanted, factors)


def print_average(root: Path, name: str, length: float, out: Path | None) -> None:
    """Write the average of a run, and say how far it may be off.

    Raises:
        ValueError: the run stored no averages, the length is not allowed, or the file is there.
    """
    find_exponent(length)
    folder, file = (
        _require_power(root, name.strip("/").removeprefix("runs/")),
        out or Path(f"ema-{length:g}.safetensors"),
    )
    if file.exists():
        raise SpecError(f"{file}: is there already; --out names another")
    weights, error = average_run(folder, length)
    write_weights(file, weights)
    print(f"{file}: the average of length {length:g} of {len(find_snapshots(folder))} snapshots")
    print(f"relative error {error:.1e} if all steps were independent, far less in a training: more snapshots lower it")
