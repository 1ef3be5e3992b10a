"""FLOPs and seconds of a piece of work: a few real steps on random images, measured and multiplied."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.data.arrays import Split
from pipeline.layers.flops import count_flops
from pipeline.schema.compute import Compute
from pipeline.schema.data import Dataset

_MOST_STEPS = 3  # timed, at most
_SMALLEST = 2  # images that batch normalisation needs
_GROWTH = 4  # of the batch from one probe to the next
_PATIENCE = 2.0  # seconds that the next probe may be expected to take
_CHEAP = 2e10  # FLOP of a step that is fast on every device


@dataclass(frozen=True)
class Cost:
    """FLOPs and seconds of one job."""

    flops: float
    """Of convolutions, matrix products and attention; a multiplication and an addition are two."""
    seconds: float
    scaled: bool
    """Measured on a smaller batch than the run's, as its own takes too long."""

    def repeat(self, flops: float, seconds: float) -> "Cost":
        """The FLOPs times one number, the seconds times another."""
        return Cost(self.flops * flops, self.seconds * seconds, self.scaled)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.seconds + other.seconds, self.scaled or other.scaled)


@dataclass(frozen=True)
class CostLine:
    """Costs of a job by its size, such as optimiser steps, through those of two small ones."""

    sizes: tuple[int, int]
    costs: tuple[Cost, Cost]

    def at(self, size: int) -> Cost:
        """Cost of a job of this size."""
        (small, large), (first, second) = self.sizes, self.costs
        times = (size - small) / (large - small)
        slower = max(second.seconds - first.seconds, 0.0)  # seconds scatter, FLOPs do not
        return first + Cost((second.flops - first.flops) * times, slower * times, False)


@dataclass(frozen=True)
class Bench:
    """Device and time budget for measuring."""

    compute: Compute
    """Without torch.compile: compiling takes longer than a plan may, and hides operations from the counter."""
    device: str
    seconds: float
    """Budget for the timed steps of one kind; at least one step is timed."""

    def on_cpu(self) -> "Bench":
        """This one, whatever the device of the trainings."""
        return replace(self, device="cpu")

    def time(self, work: Callable[[int], object], batch: int) -> float:
        """Seconds of one call."""
        start = time.perf_counter()
        work(batch)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def count(self, work: Callable[[int], object], size: int) -> Cost:
        """FLOPs and seconds of `work(size)`, which runs twice."""
        return Cost(count_flops(lambda: work(size)), self.time(work, size), False)

    def draw_line(self, work: Callable[[int], object], sizes: tuple[int, int]) -> CostLine:
        """Costs of `work` by its size."""
        return CostLine(sizes, (self.count(work, sizes[0]), self.count(work, sizes[1])))

    def probe(self, work: Callable[[int], object], batch_size: int) -> dict[int, float]:
        """Seconds by batch size: growing batches, at least two of them, until the next would take too long."""
        times = {_SMALLEST: self.time(work, _SMALLEST)}
        while (batch := max(times)) < batch_size:
            if len(times) > 1 and times[batch] * _GROWTH > _PATIENCE:
                break
            larger = min(_GROWTH * batch, batch_size)
            times[larger] = self.time(work, larger)
        return times

    def measure(self, work: Callable[[int], object], batch_size: int) -> Cost:
        """Cost of `work(batch_size)`; where that takes too long, on the line through two smaller batches."""
        probed: dict[int, float] = {}
        least = min(_SMALLEST, batch_size)
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


def draw_split(dataset: Dataset, size: int, count: int) -> Split:
    """Random images of the dataset's shape, [count, C, size, size]."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, dataset.channels, size, size), dtype=np.uint8)
    return Split(images, np.arange(count, dtype=np.int64) % dataset.classes, dataset.classes)
