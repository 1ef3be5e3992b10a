"""The variance of a batch's mean loss by how its times are drawn, measured and by the formula, on a known loss."""

import math

import numpy as np
import torch
from torch import Tensor

from pipeline.compute.seeding import make_generator
from pipeline.diffusion.times import draw_uniform
from pipeline.studies.full.study import FullRecord, Ramp, RampRun

_SHIFTS = 4096
"""Of the systematic draw, over which its variance is integrated."""


def find_variance(run: RampRun) -> tuple[float, float]:
    """The variance of the batch's mean by the formula of `pipeline/diffusion/times.py`, and its floor."""
    ramp, batch = run.ramp, run.ramp.batch
    whole = 1 / ramp.offset - 1 / (1 + ramp.offset)  # the integral of m^2
    floor = ramp.noise**2 * whole / batch
    if run.times.draws == "systematic":
        return floor + _find_systematic(ramp), floor
    strata = 1 if run.times.draws == "independent" else run.times.strata or batch
    edges = np.log(np.arange(strata + 1) / strata + ramp.offset)
    between = float((np.diff(edges) ** 2).sum()) * strata  # mean of the squared means of strata
    return floor + (whole - between) / batch, floor


def _find_systematic(ramp: Ramp) -> float:
    """Variance of the mean of m over the shifted grid: the midpoint rule over shifts."""
    shift = (np.arange(_SHIFTS) + 0.5) / _SHIFTS
    grid = (shift[:, None] + np.arange(ramp.batch)) / ramp.batch
    return float((1 / (grid + ramp.offset)).mean(1).var())


def draw_means(run: RampRun) -> Tensor:
    """Mean losses [repeats] of batches."""
    ramp, batch = run.ramp, run.ramp.batch
    times, noise = (make_generator("cpu", run.seed, purpose) for purpose in ("time", "noise"))
    strata = run.times.strata or batch
    t = draw_uniform(run.times.draws, ramp.repeats, batch, strata, times)
    loss = 1 / (t + ramp.offset)
    loss = loss * (1 + ramp.noise * torch.randn(t.shape, dtype=torch.float64, generator=noise))
    return loss.mean(1)


def measure_ramp(run: RampRun) -> FullRecord:
    """The variance, and its standard error from the fourth moment."""
    means = draw_means(run)
    squares = (means - means.mean()) ** 2
    exact, floor = find_variance(run)
    return FullRecord(
        variance=float(means.var()),
        variance_stderr=math.sqrt(float(squares.var()) / len(squares)),
        variance_exact=exact,
        floor=floor,
    )
