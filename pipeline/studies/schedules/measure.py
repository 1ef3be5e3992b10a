"""Samples a target by Euler's method under a schedule, with the exact posterior mean in place of a network."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.compute.seeding import make_generator
from pipeline.diffusion.flow import follow_flow
from pipeline.diffusion.path import Schedule
from pipeline.diffusion.targets import CurieWeiss, Mixture
from pipeline.schema.study import MeasureError
from pipeline.studies.schedules.euler import find_steps, make_map
from pipeline.studies.schedules.path import make_path
from pipeline.studies.schedules.study import MixtureRun, SchedulesRecord, SpinRun

Array = NDArray[np.float64]
_MOMENTS, _FOLLOWED = 20, 12
"""Intervals between the times at which means are kept, and samples of which they are."""
_MOST_STEPS = 1_000_000
"""Beyond, a schedule is said to need more."""
_BATCH = 50_000
"""Coordinates at a time: arrays that stay in the CPU's cache, twice as fast."""


class Watch:
    """Callback for `follow_flow`: keeps the means of the first samples at evenly spaced steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.moments = sorted({round(index * steps / _MOMENTS) for index in range(_MOMENTS + 1)})
        self.means: list[list[float]] = []

    def __call__(self, step: int, mean: Array) -> None:
        """Keep the means [B] if this step is one of the moments."""
        if step in self.moments:
            self.means.append(mean[:_FOLLOWED].tolist())

    def list_times(self) -> list[float]:
        """Their times u, from 0 (noise) to 1."""
        return [moment / self.steps for moment in self.moments]


def _draw(seed: int, *shape: int) -> Array:
    noise: Array = torch.randn(shape, generator=make_generator("cpu", seed, "noise"), dtype=torch.float64).numpy()
    return noise


def _share(count: int, samples: int) -> tuple[float, float]:
    """A share and its binomial standard error, that of the share with two samples more on each side."""
    middle = (count + 2) / (samples + 4)
    return count / samples, math.sqrt(middle * (1 - middle) / (samples + 4))


def measure_mixture(run: MixtureRun) -> SchedulesRecord:
    """Weight and spread that Euler's method makes of the mixture, by samples of the reduced system and without them.

    Raises:
        MeasureError: no number of steps up to a million keeps both.
    """
    target, samples = run.target, run.sampler.samples
    mixture = Mixture(target.dimension, target.weight, target.distance, target.spread)
    schedule = make_path(run.path, target.dimension)
    steps = run.sampler.steps or find_steps(schedule, mixture, _MOST_STEPS)
    if steps is None:
        raise MeasureError(f"{_MOST_STEPS:,} steps do not keep both the weight and the spread")
    euler, watch = make_map(schedule, mixture, steps), Watch(steps)
    pair = _draw(run.seed, 2, samples) * euler.prior
    pair[0] /= math.sqrt(target.dimension)
    ends = follow_flow(schedule, mixture.predict_pair, pair, steps, lambda step, x: watch(step, x[0]))
    weight, error = _share(int((ends[0] > 0).sum()), samples)
    spread = float(ends[1].std())
    return SchedulesRecord(
        steps=steps,
        weight=weight,
        weight_stderr=error,
        weight_exact=euler.find_weight(target.dimension),
        weight_target=target.weight,
        spread=spread,
        spread_stderr=spread / math.sqrt(2 * samples),
        spread_exact=euler.spread,
        spread_target=target.spread,
        square=None,
        up=None,
        up_stderr=None,
        up_target=None,
        times=watch.list_times(),
        means=watch.means,
    )


def measure_spins(run: SpinRun, batch: int = _BATCH) -> SchedulesRecord:
    """Magnetisation and spins that Euler's method makes of the Curie-Weiss model; there is no reduced system.

    Args:
        batch: coordinates at a time; no number depends on it, but for rounding.
    """
    spin, samples, steps = run.spin, run.sampler.samples, run.sampler.steps
    target = CurieWeiss(spin.spins, spin.beta, spin.field)
    schedule, watch = make_path(run.path, spin.spins), Watch(steps)
    prior = float(schedule(torch.ones((), dtype=torch.float64)).sigma)
    noise, ends = _draw(run.seed, samples, spin.spins), []
    for start in range(0, samples, rows := max(1, batch // spin.spins)):
        follow = watch if start == 0 else None
        ends.append(_follow(schedule, target, noise[start : start + rows] * prior, steps, follow))
    ups, squares, sums = (np.concatenate(values) for values in zip(*ends, strict=True))
    weight, error = _share(int((sums > 0).sum()), samples)
    ups = ups[sums > 0]
    return SchedulesRecord(
        steps=steps,
        weight=weight,
        weight_stderr=error,
        weight_exact=None,
        weight_target=target.find_weight(),
        spread=None,
        spread_stderr=None,
        spread_exact=None,
        spread_target=None,
        square=float(squares.mean()),
        up=float(ups.mean()) if len(ups) else None,
        up_stderr=float(ups.std(ddof=1) / math.sqrt(len(ups))) if len(ups) > 1 else None,
        up_target=(1 + target.magnetisation) / 2,
        times=watch.list_times(),
        means=watch.means,
    )


def _follow(
    schedule: Schedule, target: CurieWeiss, x: Array, steps: int, watch: Watch | None
) -> tuple[Array, Array, Array]:
    """Of each sample: the share of spins up, the mean of x_i^2, and the sum."""

    def callback(step: int, x: Array) -> None:
        if watch is not None:
            watch(step, x.mean(1))

    ends = follow_flow(schedule, target.predict_x0, x, steps, callback)
    return (ends > 0).mean(1), (ends**2).mean(1), ends.sum(1)


def measure_schedule(run: MixtureRun | SpinRun) -> SchedulesRecord:
    """One run of either case."""
    return measure_spins(run) if isinstance(run, SpinRun) else measure_mixture(run)
