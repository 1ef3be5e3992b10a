"""What a training or sampling of the study `ddpm` costs, and how large its network is."""

import math

import torch

from pipeline.metrics.bench import Bench, Cost, draw_split
from pipeline.schema.data import Dataset
from pipeline.schema.diffusion import Sampling
from pipeline.schema.project import Project
from pipeline.schema.study import Step
from pipeline.studies.ddpm.denoiser import make_denoiser
from pipeline.studies.ddpm.sampler import DdpmSampler, count_snapshots, list_lengths
from pipeline.studies.ddpm.study import TRAINED, DdpmRun
from pipeline.studies.ddpm.trainer import DdpmTrainer

STEPS: tuple[Step, ...] = ("train", "sample")
"""The steps that are priced."""


def price(project: Project, run: DdpmRun, step: Step, bench: Bench, images: tuple[int, int]) -> Cost:
    """One training, or all sample sets of one model."""
    dataset = project.data.datasets[run.case]
    if step == "train":
        return price_training(run, dataset, bench)
    sampling = project.later("ddpm", run.case)["sampling"]
    assert isinstance(sampling, Sampling)
    return price_sampling(run, sampling, dataset, bench)


def price_training(run: DdpmRun, dataset: Dataset, bench: Bench) -> Cost:
    """The optimiser steps of one training; imported weights take none."""
    if run.network.weights != TRAINED:
        return Cost(0.0, 0.0, scaled=False)
    training = run.training
    split = draw_split(dataset, training.image_size, training.batch_size)
    trainer = DdpmTrainer(run, split, bench.compute, bench.device)
    indices = torch.arange(training.batch_size, device=bench.device)
    one = bench.measure(lambda count: trainer.step(1, indices[:count]), training.batch_size)
    return one.repeat(training.steps, training.steps)


def price_sampling(run: DdpmRun, sampling: Sampling, dataset: Dataset, bench: Bench) -> Cost:
    """All sample sets of one model, those of its snapshots and lengths included."""
    batch_size = min(sampling.batch_size, sampling.images)
    single = sampling.model_copy(update={"steps": 1})
    sampler = DdpmSampler(run, single, dataset.channels, bench.compute, bench.device)
    one = bench.measure(lambda count: sampler.sample(torch.arange(count)), batch_size)
    snapshots = count_snapshots(run, sampling) if run.network.weights == TRAINED else 0
    sets = sampling.sets + snapshots + len(list_lengths(run))
    batches = math.ceil(sampling.images / batch_size)
    return one.repeat(sets * sampling.steps * sampling.images / batch_size, sets * sampling.steps * batches)


def count_params(project: Project, run: DdpmRun) -> int:
    """Number of trained parameters of the U-Net, built without memory for its weights."""
    with torch.device("meta" if run.network.denoiser is None else "cpu"):
        network = make_denoiser(run, project.data.datasets[run.case].channels)
    return sum(value.numel() for value in network.parameters())
