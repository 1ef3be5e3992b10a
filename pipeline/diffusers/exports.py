"""A trained diffusion model as a folder that diffusers' DDPMPipeline reads."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from pipeline.diffusers.config import CLASS, write_config
from pipeline.diffusers.imports import CONFIG, SCHEDULER, WEIGHTS
from pipeline.diffusers.weights import to_diffusers
from pipeline.run.outputs import read_weights
from pipeline.schema.diffusion import Diffusion, Sampling
from pipeline.schema.files import replace_file, write_json
from pipeline.schema.resolved import read_run
from pipeline.studies.ddpm.study import DdpmRun

_PIPELINE, _SCHEDULER = "DDPMPipeline", "DDPMScheduler"


def find_snapshot(folder: Path, step: int | None) -> Path:
    """The averaged weights after a step of training; None: the last.

    Raises:
        ValueError: they are not there; the line says which are.
    """
    steps = {int(path.stem.removeprefix("ema-")): path for path in sorted(folder.glob("ema-*.safetensors"))}
    if not steps:
        raise ValueError(f"{folder}: no averaged weights; `dvc repro` trains and `dvc pull` fetches models")
    chosen = max(steps) if step is None else step
    if chosen not in steps:
        raise ValueError(f"step = {chosen}: {folder} has {', '.join(map(str, steps))}")
    return steps[chosen]


def write_scheduler(diffusion: Diffusion, sampling: Sampling) -> dict[str, Any]:
    """The configuration of DDPMScheduler that is this noise and this sampling.

    Differs: it tells the network integer levels, whatever `labels` says.
    """
    return {
        "_class_name": _SCHEDULER,
        "beta_end": diffusion.beta_max / diffusion.levels,
        "beta_schedule": "linear",
        "beta_start": diffusion.beta_min / diffusion.levels,
        "clip_sample": sampling.clip,
        "clip_sample_range": 1.0,
        "num_train_timesteps": diffusion.levels,
        "prediction_type": "epsilon",
        "rescale_betas_zero_snr": False,
        "steps_offset": 0,
        "thresholding": False,
        "timestep_spacing": "linspace",  # as `choose_levels`: from the noisiest to the least noisy level
        "trained_betas": None,
        "variance_type": f"fixed_{sampling.variance}",
    }


def export_folder(folder: Path, step: int | None, sampling: Sampling, out: Path) -> Path:
    """Write a trained model's averaged weights, network, noise and sampling for diffusers; returns the weights' source.

    Args:
        folder: what a training wrote.
        step: of a snapshot; None: the last.
        out: a folder that is not there yet, or is empty.

    Raises:
        ValueError: there is no such model, it is damaged, UNet2DModel cannot be it, or `out` is not empty.
    """
    if not (folder / "run.json").is_file():
        raise ValueError(f"{folder}: no trained model; `dvc repro` trains it, if params.yaml lists it")
    run, _ = read_run(folder / "run.json", DdpmRun)
    source = find_snapshot(folder, step)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out}: is there already; name a new folder")
    size = run.training.image_size
    try:
        ours = read_weights(source)
        config = write_config(run.network, ours["conv_in.weight"].shape[1], size)
        weights = to_diffusers(ours, run.network, size)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{source}: not this network's weights: {str(error).splitlines()[0]}") from None
    with replace_file(out / "unet" / WEIGHTS) as partial:
        save_file({name: value.contiguous() for name, value in weights.items()}, partial)
    write_json(out / "unet" / CONFIG, config)
    write_json(out / "scheduler" / SCHEDULER, write_scheduler(run.diffusion, sampling))
    parts = {"scheduler": ["diffusers", _SCHEDULER], "unet": ["diffusers", CLASS]}
    write_json(out / "model_index.json", {"_class_name": _PIPELINE, **parts})
    return source
