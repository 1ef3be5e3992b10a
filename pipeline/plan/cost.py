"""What a training or sampling costs: FLOPs counted and seconds measured in a few real steps on random images."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from pipeline.data.arrays import Split
from pipeline.layers.flops import count_flops
from pipeline.schema.compute import Compute
from pipeline.schema.data import Dataset
from pipeline.schema.diffusion import Sampling
from pipeline.studies.ddpm.sampler import DdpmSampler, count_snapshots
from pipeline.studies.ddpm.study import DdpmRun
from pipeline.studies.ddpm.trainer import DdpmTrainer
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.trainer import NodeTrainer

_MOST_STEPS = 3  # timed, at most
_LEAST = 2  # images that batch normalisation needs
_GROWTH = 4  # of the batch from one probe to the next
_PATIENCE = 2.0  # seconds that the next probe may be feared to take
_CHEAP = 2e10  # FLOP of a step that no device takes longer for
_RATE = 1e-12  # leaves the network at its initialisation, where its NFE are those of the first step

RunT = TypeVar("RunT", NodeRun, DdpmRun)


@dataclass(frozen=True)
class Cost:
    """Of a piece of work."""

    flops: float
    """Of convolutions, matrix products and attention; a multiplication and an addition are two."""
    seconds: float
    scaled: bool
    """Measured on a smaller batch than the run's, as its own takes too long."""

    def repeat(self, flops: float, seconds: float) -> "Cost":
        """Its FLOPs so many times, its seconds so many times."""
        return Cost(self.flops * flops, self.seconds * seconds, self.scaled)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.seconds + other.seconds, self.scaled or other.scaled)


@dataclass(frozen=True)
class Bench:
    """Where it is measured."""

    compute: Compute
    device: str
    seconds: float
    """That timed steps of one kind may take together; there is at least one."""

    def time(self, work: Callable[[int], object], batch: int) -> float:
        """Seconds of one call."""
        start = time.perf_counter()
        work(batch)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def probe(self, work: Callable[[int], object], batch_size: int) -> dict[int, float]:
        """Seconds of growing batches, at least two of them, as far as patience allows."""
        times = {_LEAST: self.time(work, _LEAST)}
        while (batch := max(times)) < batch_size:
            if len(times) > 1 and times[batch] * _GROWTH > _PATIENCE:
                break
            larger = min(_GROWTH * batch, batch_size)
            times[larger] = self.time(work, larger)
        return times

    def measure(self, work: Callable[[int], object], batch_size: int) -> Cost:
        """Cost of `work(batch_size)`; where that takes too long, on the line through two smaller batches."""
        probed: dict[int, float] = {}
        least = min(_LEAST, batch_size)
        if count_flops(lambda: work(least)) * batch_size / least > _CHEAP:
            probed = self.probe(work, batch_size)
        batch = max(probed, default=batch_size)
        flops = count_flops(lambda: work(batch))
        times = [self.time(work, batch)]
        while len(times) < _MOST_STEPS and sum(times) + times[-1] < self.seconds:
            times.append(self.time(work, batch))
        seconds = statistics.median(times)
        if batch < batch_size:
            before = sorted(probed)[-2]
            slope = max(seconds - probed[before], 0.0) / (batch - before)
            seconds += slope * (batch_size - batch)
        return Cost(flops * batch_size / batch, seconds, batch < batch_size)


def _draw_split(data: Dataset, size: int, count: int) -> Split:
    """Random images in the dataset's shape."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, data.channels, size, size), dtype=np.uint8)
    return Split(images, np.arange(count, dtype=np.int64) % data.classes, data.classes)


def _freeze(run: RunT) -> RunT:
    """The same run with hardly any learning rate."""
    return run.model_copy(update={"training": run.training.model_copy(update={"learning_rate": _RATE})})


def _without_compilation(compute: Compute) -> Compute:
    """Compiling takes longer than a plan may, and hides the operations from the counter."""
    return compute.model_copy(update={"compile": False})


def cost_node(run: NodeRun, data: Dataset, train_images: int, test_images: int, bench: Bench) -> Cost:
    """One training of a classifier: its optimiser steps, and a pass over the test split each epoch.

    Raises:
        SolveError: already the first step fails.
    """
    training = run.training
    batch_size = min(training.batch_size, train_images)
    split = _draw_split(data, training.image_size, batch_size)
    trainer = NodeTrainer(_freeze(run), split, _without_compilation(bench.compute), bench.device)
    tally, indices = trainer.begin_epoch(), torch.arange(batch_size, device=bench.device)
    step = bench.measure(lambda count: trainer.step(0, indices[:count], tally), batch_size)
    images = trainer.normalise(split.images)
    test = bench.measure(lambda count: trainer.predict(images[:count]), batch_size)
    steps, tests = math.ceil(train_images / batch_size), math.ceil(test_images / batch_size)
    epoch = step.repeat(train_images / batch_size, steps) + test.repeat(test_images / batch_size, tests)
    return epoch.repeat(training.epochs, training.epochs)


def cost_ddpm(run: DdpmRun, data: Dataset, bench: Bench) -> Cost:
    """One training of a diffusion model."""
    training = run.training
    split = _draw_split(data, training.image_size, training.batch_size)
    trainer = DdpmTrainer(_freeze(run), split, _without_compilation(bench.compute), bench.device)
    indices = torch.arange(training.batch_size, device=bench.device)
    step = bench.measure(lambda count: trainer.step(1, indices[:count]), training.batch_size)
    return step.repeat(training.steps, training.steps)


def cost_sampling(run: DdpmRun, sampling: Sampling, data: Dataset, bench: Bench) -> Cost:
    """All sample sets of one diffusion model, those of its snapshots included."""
    batch_size = min(sampling.batch_size, sampling.images)
    one = sampling.model_copy(update={"steps": 1})
    sampler = DdpmSampler(run, one, data.channels, _without_compilation(bench.compute), bench.device)
    step = bench.measure(lambda count: sampler.sample(torch.arange(count)), batch_size)
    sets = sampling.sets + count_snapshots(run, sampling)
    batches = math.ceil(sampling.images / batch_size)
    return step.repeat(sets * sampling.steps * sampling.images / batch_size, sets * sampling.steps * batches)
