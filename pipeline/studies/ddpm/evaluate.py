"""Evaluates a diffusion model: test loss and level-awareness of its weights, scores of its samples. Trains nothing."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from pipeline.compute.seeding import make_generator
from pipeline.data.arrays import Split
from pipeline.data.batches import scale_images
from pipeline.diffusion.path import add_noise
from pipeline.diffusion.schedule import make_schedule
from pipeline.metrics.features import load_extractor, read_reference
from pipeline.metrics.generative import measure_scores
from pipeline.run.outputs import read_weights
from pipeline.schema.compute import Compute
from pipeline.schema.data import ClassifierExtractor, InceptionExtractor
from pipeline.schema.scores import Evaluation, Scores
from pipeline.studies.ddpm.denoiser import DdpmDenoiser, make_denoiser, make_output
from pipeline.studies.ddpm.level_awareness import measure_level_awareness
from pipeline.studies.ddpm.noise_losses import measure_noise_losses
from pipeline.studies.ddpm.record import Evaluated, check_steps, make_ddpm_record
from pipeline.studies.ddpm.samples import name_length, name_sampled_snapshot, name_set, read_set
from pipeline.studies.ddpm.snapshots import find_snapshots
from pipeline.studies.ddpm.study import TRAINED, DdpmRecord, DdpmRun, LevelAwareness, NoiseLosses, SampleSets
from pipeline.studies.ddpm.trainer import initialise_denoiser
from pipeline.studies.ddpm.unet import UNet

AWARENESS_IMAGES = 32
_PACKAGES = ("torch", "torch-fidelity", "numpy")


@dataclass(frozen=True)
class Folders:
    """Input folders of an evaluation."""

    run: Path
    samples: Path
    extractor: Path
    reference: Path


def _load_denoiser(run: DdpmRun, averages: dict[str, Tensor], channels: int, device: str) -> DdpmDenoiser:
    network = make_denoiser(run, channels).to(device)
    network.load_state_dict(averages)
    return network.eval()


def measure_losses(run: DdpmRun, averages: dict[str, Tensor], images: Tensor, batch_size: int) -> NoiseLosses:
    """Losses of averaged weights on uint8 images [N, C, H, W] on the device; see `measure_noise_losses`."""
    device = str(images.device)
    network, x = _load_denoiser(run, averages, images.shape[1], device), scale_images(images) * 2 - 1
    schedule = make_schedule(run.diffusion, device)
    return NoiseLosses(**vars(measure_noise_losses(network, schedule, x, batch_size, make_output(run))))


@torch.no_grad()
def measure_averages(run: DdpmRun, averages: dict[str, Tensor], images: Tensor) -> LevelAwareness | None:
    """Level-awareness of averaged weights, on noisy images at the middle level; None if they are not of our U-Net.

    The noise depends on the run's seed alone; it is drawn on the CPU.

    Args:
        averages: the weights, by name.
        images: uint8 [N, C, H, W] on the device; the first 32 are used.
    """
    x = scale_images(images[:AWARENESS_IMAGES]) * 2 - 1
    level = run.diffusion.levels // 2
    noise = torch.randn(x.shape, generator=make_generator("cpu", run.seed, "awareness")).to(x.device)
    schedule = make_schedule(run.diffusion, str(x.device))
    network = _load_denoiser(run, averages, x.shape[1], str(x.device))
    if not isinstance(network, UNet):
        return None
    noisy = add_noise(schedule(torch.full((len(x),), level, device=x.device)), x, noise)
    return LevelAwareness(**vars(measure_level_awareness(network, noisy, level)))


def measure_initial(run: DdpmRun, images: Tensor) -> LevelAwareness | None:
    """Level-awareness of the initial weights; images as in `measure_averages`."""
    network = initialise_denoiser(run, images.shape[1], str(images.device))
    return measure_averages(run, network.state_dict(), images)


def evaluate_ddpm(
    run: DdpmRun,
    run_compute: Compute,
    samples: SampleSets,
    folders: Folders,
    train: Split,
    test: Split,
    evaluation: Evaluation,
    extractor: ClassifierExtractor | InceptionExtractor,
    device: str,
) -> DdpmRecord:
    """Measure level-awareness before and after training, the test loss, and FID, KID and IS of every sample set.

    Args:
        run_compute: settings under which the model was trained.
        train: the training split; level-awareness is measured on its first images.
        test: the test split, for the loss.
        extractor: the extractor's settings in specs/data.yaml.

    Raises:
        ValueError: the samples come from other weights, or a file is missing or damaged.
    """
    check_steps(run, samples)
    images = torch.from_numpy(train.images[:AWARENESS_IMAGES]).to(device)
    weights = read_weights(list(find_snapshots(folders.run).values())[-1])
    initial = measure_initial(run, images) if run.network.weights == TRAINED else None
    trained = measure_averages(run, weights, images)
    losses = measure_losses(run, weights, torch.from_numpy(test.images).to(device), evaluation.batch_size)
    found = load_extractor(folders.extractor, device, evaluation.batch_size)
    reference, statistics = read_reference(folders.reference, found)

    def score(name: str) -> Scores:
        sample = read_set(folders.samples / name, samples.sampling.images, reference.shape)
        return measure_scores(found.extract(sample), statistics, evaluation)

    sets = [score(name_set(index)) for index in range(samples.sampling.sets)]
    earlier = [score(name_sampled_snapshot(step)) for step in samples.snapshots]
    lengths = [score(name_length(length)) for length in samples.lengths]
    num_params = sum(value.numel() for value in make_denoiser(run, images.shape[1]).parameters())
    versions = {package: version(package) for package in _PACKAGES}
    evaluated = Evaluated(samples, sets, earlier, initial, trained, num_params, losses, lengths)
    return make_ddpm_record(run, run_compute, evaluated, reference, evaluation, extractor, versions)
