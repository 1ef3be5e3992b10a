"""Post-hoc averages of trajectories whose law is known: measured and predicted errors, in float64."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.compute.seeding import make_generator
from pipeline.diffusion.power_average import (
    TRACKED,
    Array,
    PowerAverage,
    Profile,
    combine_averages,
    find_exponent,
    fit_profile,
    predict_error,
    weigh_steps,
)
from pipeline.studies.edm2.study import Averages, Edm2Record, LengthError, PostHocRun

LENGTHS = (0.02, 0.03, 0.07, 0.15, 0.20, 0.25)
"""Lengths that are made afterwards, and tracked to compare."""


def list_stored(steps: int, snapshots: int) -> list[int]:
    """The steps after which averages are stored: evenly, the last among them."""
    return sorted({steps * (index + 1) // snapshots for index in range(snapshots)} - {0})


def _run(averages: Averages, seed: int) -> Iterator[tuple[int, Tensor]]:
    """The states [values] after each step, float64."""
    generator, state = make_generator("cpu", seed, "trajectory"), torch.zeros(averages.values, dtype=torch.float64)
    for step in range(1, averages.averaged_steps + 1):
        noise = torch.randn(averages.values, generator=generator, dtype=torch.float64)
        if averages.trajectory == "noise":
            state = noise
        else:
            state = state + noise * (step**-0.5 if averages.trajectory == "decaying" else 1.0)
        yield step, state


def find_size(trajectory: str, weights: Array) -> float:
    """Root mean square of a weighted sum of the states.

    The states of a walk are sums of its steps: step k counts with the sum of the weights from k on.
    """
    if trajectory == "noise":
        return float(np.sqrt((weights**2).sum()))
    later = np.cumsum(weights[::-1])[::-1]
    size = 1 / np.arange(1, len(weights) + 1) if trajectory == "decaying" else 1.0
    return float(np.sqrt((size * later**2).sum()))


class _Fit:
    """The post-hoc average of one length: its factors, and what its error must be."""

    def __init__(self, averages: Averages, stored: list[Profile], length: float) -> None:
        wanted = Profile(averages.averaged_steps, find_exponent(length))
        self.factors = fit_profile(stored, wanted)
        self.profile = predict_error(stored, wanted, self.factors)
        exact = weigh_steps(wanted.step, wanted.exponent)
        error = -exact
        for factor, one in zip(self.factors, stored, strict=True):
            error[: one.step] += factor * weigh_steps(one.step, one.exponent)
        self.predicted = find_size(averages.trajectory, error) / find_size(averages.trajectory, exact)


def measure_post_hoc(run: PostHocRun) -> Edm2Record:
    """Track all lengths, store those that a training would, and rebuild the others from them."""
    averages, value = run.averages, torch.zeros(run.averages.values, dtype=torch.float64)
    tracked = {length: PowerAverage({"": value}, length) for length in (*TRACKED, *LENGTHS)}
    stored, profiles, kept = list_stored(averages.averaged_steps, averages.snapshots), [], []
    for step, state in _run(averages, run.seed):
        value.copy_(state)
        for average in tracked.values():
            average.update()
        if step in stored:
            for length in TRACKED:
                profiles.append(Profile(step, tracked[length].exponent))
                kept.append({"": tracked[length].averages[""].clone()})
    found = dict[float, LengthError]()
    for length, average in tracked.items():
        fit, direct = _Fit(averages, profiles, length), average.averages[""].numpy()
        error = combine_averages(kept, fit.factors)[""].numpy() - direct
        relative = float(np.sqrt((error**2).sum() / (direct**2).sum()))
        found[length] = LengthError(length=length, error=relative, predicted=fit.predicted, profile=fit.profile)
    made = [found[length] for length in LENGTHS]
    return Edm2Record(
        error_02=found[0.02].error,
        error_03=found[0.03].error,
        error_07=found[0.07].error,
        error_15=found[0.15].error,
        error_20=found[0.20].error,
        error_25=found[0.25].error,
        error_stored=max(found[length].error for length in TRACKED),
        deviation=max(abs(one.error / one.predicted - 1) for one in made),
        lengths=made,
    )
