"""Samples images from a trained diffusion model's averaged weights, with checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.compute.seeding import derive_seed
from pipeline.data.arrays import read_arrays, write_arrays
from pipeline.diffusion.noise import draw_noise
from pipeline.diffusion.power_average import CURVE
from pipeline.diffusion.sample import quantise_images, sample_images
from pipeline.diffusion.schedule import make_schedule
from pipeline.diffusion.trajectory import Trajectory
from pipeline.run.checkpoint import Checkpoint
from pipeline.run.outputs import load_weights
from pipeline.run.progress import show_progress
from pipeline.run.workers import Worker
from pipeline.schema.compute import Compute
from pipeline.schema.diffusion import Sampling
from pipeline.schema.files import write_json
from pipeline.studies.ddpm.denoiser import make_denoiser, make_output
from pipeline.studies.ddpm.post_hoc import average_run
from pipeline.studies.ddpm.samples import name_length, name_sampled_snapshot, name_set
from pipeline.studies.ddpm.snapshots import find_snapshots
from pipeline.studies.ddpm.study import DdpmRun, SampleSets


@dataclass(frozen=True)
class SampleSet:
    """Images to sample: the output file, the weights, and the number of the first image."""

    file: str
    weights: Path
    first: int
    length: float | None = None
    """Of the average of all snapshots that takes the place of `weights`; None: the file as it is."""


def count_channels(folder: Path) -> int:
    """Image channels of a trained model, read from its weights.

    Raises:
        ValueError: the weights are damaged.
    """
    path = next(iter(find_snapshots(folder).values()))
    try:
        with safe_open(path, framework="pt") as file:
            if "image_channels" in file.keys():  # noqa: SIM118 - no mapping; see `OwnDenoiser`
                return int(file.get_slice("image_channels").get_shape()[0])
            return int(file.get_slice("conv_in.weight").get_shape()[1])
    except SafetensorError as error:
        raise ValueError(f"{path}: not this network's weights: {str(error).splitlines()[0]}") from None


def list_lengths(run: DdpmRun) -> tuple[float, ...]:
    """Lengths whose averages after the last step are sampled too, ascending."""
    return CURVE if run.training.ema_curve else ()


def list_sets(run: DdpmRun, folder: Path, sampling: Sampling) -> list[SampleSet]:
    """Sample sets to make: one for each earlier snapshot and length asked for, then disjoint sets of the last weights.

    Those of snapshots and lengths use the same noise as the first set of the last weights.
    """
    snapshots = find_snapshots(folder)
    *earlier, last = snapshots
    wanted = [step for step in earlier if sampling.first_snapshot is not None and step >= sampling.first_snapshot]
    sets = [SampleSet(name_sampled_snapshot(step), snapshots[step], 0) for step in wanted]
    sets += [SampleSet(name_length(length), snapshots[last], 0, length) for length in list_lengths(run)]
    return sets + [
        SampleSet(name_set(index), snapshots[last], index * sampling.images) for index in range(sampling.sets)
    ]


def count_snapshots(run: DdpmRun, sampling: Sampling) -> int:
    """Number of snapshots before the last weights that are sampled."""
    every, first = run.training.snapshot_every, sampling.first_snapshot
    return 0 if first is None else sum(step >= first for step in range(every, run.training.steps, every))


class DdpmSampler:
    """A U-Net that samples. The noise of an image depends on the run's seed and the image's number alone."""

    def __init__(self, run: DdpmRun, sampling: Sampling, channels: int, compute: Compute, device: str) -> None:
        self.run, self.sampling, self.device = run, sampling, device
        self.shape = (channels, run.training.image_size, run.training.image_size)
        self.key = derive_seed(run.seed, "sampling")
        self.layout = torch.channels_last if run.training.channels_last else torch.contiguous_format
        self.network = make_denoiser(run, channels).to(device).to(memory_format=self.layout).eval()
        if compute.compile:
            self.network.compile(dynamic=False)
        self.schedule, self.output = make_schedule(run.diffusion), make_output(run)
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bfloat16")

    def sample(
        self, numbers: Tensor, on_step: Callable[[], object] = lambda: None, trajectory: Trajectory | None = None
    ) -> Tensor:
        """Sample the images with these numbers [B]; returns [B, C, H, W] uint8 on the CPU.

        Args:
            on_step: callback before each step.
            trajectory: records the trajectory of the first images.
        """
        numbers = numbers.to(self.device)

        def draw(index: int) -> Tensor:
            return draw_noise(self.key, numbers, index, self.shape).contiguous(memory_format=self.layout)

        def watch(step: int, x: Tensor, noise: Tensor) -> None:
            on_step()
            if trajectory is not None:
                trajectory.watch(step, x, noise)

        with self.autocast:
            x = sample_images(self.network, self.schedule, self.sampling, draw, watch, self.output)
        if trajectory is not None:
            trajectory.finish(x)
        return quantise_images(x, self.sampling.quantisation).contiguous().cpu()


def _load(sample_set: SampleSet, sampler: DdpmSampler) -> None:
    """Give the sampler's network the weights of a set."""
    if sample_set.length is None:
        load_weights(sample_set.weights, sampler.network)
    else:
        sampler.network.load_state_dict(average_run(sample_set.weights.parent, sample_set.length)[0])


def _sample_share(sampler: DdpmSampler, sets: list[SampleSet], checkpoint: Checkpoint, worker: Worker) -> None:
    """Sample this worker's images of every set, as files in its checkpoint.

    The leader also records the trajectory of the first images of set 0 while it samples them. If its first batch is
    small, the trajectory has fewer images.
    """
    size, own = sampler.sampling.batch_size, worker.share(sampler.sampling.images)
    finished, images = 0, [torch.empty(0, *sampler.shape, dtype=torch.uint8)]
    if (found := checkpoint.load()) is not None:
        finished, images = found[1]["finished"], [found[0]["images"]]
    steps, batches = sampler.sampling.steps, -(-(own.stop - own.start) // size)
    title, total = f"sample {sampler.run.arm}", len(sets) * batches * steps
    with show_progress(total, title, "step", finished * batches * steps) as bar:
        for sample_set in sets[finished:]:
            _load(sample_set, sampler)
            while (start := own.start + sum(map(len, images))) < own.stop:
                # Images are numbered across sets, so that disjoint sets have different noise.
                numbers = torch.arange(start, min(start + size, own.stop)) + sample_set.first
                first = worker.leads and start == 0 and sample_set.file == name_set(0)
                trajectory = Trajectory(sampler.schedule, sampler.sampling) if first else None
                images.append(sampler.sample(numbers, partial(bar.update), trajectory))
                if trajectory is not None:
                    arrays = {name: value.numpy() for name, value in trajectory.stack().items()}
                    write_arrays(checkpoint.files / "trajectory.safetensors", arrays)
                if checkpoint.is_due():
                    checkpoint.save({"images": torch.cat(images)}, {"finished": finished})
            write_arrays(checkpoint.files / sample_set.file, {"images": torch.cat(images).numpy()})
            # An empty tensor of the right shape starts the next set.
            finished, images = finished + 1, images[:1]
            images[0] = images[0][:0]


def sample_ddpm(
    run: DdpmRun,
    folder: Path,
    sampling: Sampling,
    compute: Compute,
    device: str,
    out: Path,
    checkpoints: list[Checkpoint],
    worker: Worker,
    trace: str,
) -> None:
    """Sample every set of a trained model to `out`, with samples.json and a trajectory; resumes from checkpoints.

    Args:
        folder: runs/ddpm/CASE/ARM/SEED, as `train_ddpm` wrote it.
        checkpoints: one per worker, not yet entered.
        trace: the golden trace of the sampling code, for samples.json.

    Raises:
        ValueError: the weights are damaged or another network's, another process samples this run, or a set has fewer
            images than there are workers.
    """
    if sampling.images < worker.count:
        raise ValueError(f"sampling.images = {sampling.images}: {worker.count} GPUs cannot share them; fewer can")
    sets = list_sets(run, folder, sampling)
    sampler = DdpmSampler(run, sampling, count_channels(folder), compute, device)
    own = checkpoints[worker.rank]
    with own:
        _sample_share(sampler, sets, own, worker)
        worker.wait()
        if worker.leads:
            for sample_set in sets if worker.count > 1 else []:
                parts = [read_arrays(checkpoint.files / sample_set.file)["images"] for checkpoint in checkpoints]
                write_arrays(own.files / sample_set.file, {"images": np.concatenate(parts)})
            *earlier, last = find_snapshots(folder)
            sampled = [step for step in earlier if name_sampled_snapshot(step) in {part.file for part in sets}]
            lengths = list(list_lengths(run))
            found = SampleSets(steps=last, snapshots=sampled, sampling=sampling, trace=trace, lengths=lengths)
            # Without defaults: the file of a run without lengths is what it was before there were any.
            write_json(own.files / "samples.json", found.model_dump(exclude_defaults=True))
            own.finish(own.files, out)
        worker.wait()
        if not worker.leads:
            own.remove()
