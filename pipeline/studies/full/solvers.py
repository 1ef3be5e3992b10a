"""What a solver makes of Gaussian data, without samples: x is kept as a combination of a constant and of all noise.

On Gaussian data the exact f is linear in x, and so is every solver. Its own code runs on the coefficients.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.diffusion.path import GaussianPath, Schedule
from pipeline.diffusion.reverse import SOLVERS, SolverName, solve_reverse
from pipeline.studies.full.path import find_schedule, space_times
from pipeline.studies.full.study import FullRecord, Gaussian, SolverRun


@dataclass(frozen=True)
class Outcome:
    """The law of a solver's samples, which is normal."""

    mean: float
    std: float
    excursion: float
    """Largest standard deviation of x on the way."""


def follow_gaussian(schedule: Schedule, times: Tensor, solver: SolverName, data: Gaussian) -> Outcome:
    """The exact law of the samples of a solver with the exact f, from N(0, 1) at the first time."""
    size = len(times) + 1
    unit = torch.eye(size, dtype=torch.float64)  # row 0: the constant; row 1: the start; the others: noise of a step
    spreads = []

    def predict(path: GaussianPath, x: Tensor) -> Tensor:
        """f = (alpha (1 - spread^2) x - mean) / (alpha^2 spread^2 + sigma^2)."""
        variance = (path.alpha * data.spread) ** 2 + path.sigma**2
        return (path.alpha * (1 - data.spread**2) * x - data.mean * unit[0]) / variance

    def watch(_: int, x: Tensor) -> None:
        spreads.append(float(x[1:].square().sum()) ** 0.5)

    x = solve_reverse(SOLVERS[solver], schedule, times, unit[1], predict, lambda k: unit[k + 1], watch)
    return Outcome(float(x[0]), spreads[-1], max(spreads))


def _find_order(half: float, whole: float) -> float | None:
    return math.log2(half / whole) if half > 0 and whole > 0 else None


def measure_solver(run: SolverRun) -> FullRecord:
    """Errors of the samples' mean and standard deviation, and how far the state goes astray."""
    schedule, sampler, data = find_schedule(run.path.schedule), run.sampler, run.gaussian

    def follow(steps: int) -> Outcome:
        return follow_gaussian(schedule, space_times(steps, run.path.truncation), sampler.solver, data)

    found, half = follow(sampler.steps), follow(sampler.steps // 2)
    error = found.std - data.spread
    return FullRecord(
        std_error=abs(error),
        std_bias=error,
        mean_error=abs(found.mean - data.mean),
        order=_find_order(abs(half.std - data.spread), abs(error)),
        excursion=found.excursion,
        nfe=sampler.steps,
    )
