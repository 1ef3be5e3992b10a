"""Summaries over seeds or sample sets: mean, spread, the interval of the mean, and how many would decide a sign."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
"""Of every interval."""
MAX_N = 10_000
"""Seeds, or sets, beyond which a study is not worth planning."""


@dataclass(frozen=True)
class Summary:
    """Mean and spread over n seeds or sample sets."""

    mean: float
    std: float | None
    """Sample standard deviation (n - 1); None for a single value."""
    n: int


def summarise(values: Mapping[int, float]) -> Summary | None:
    """Summary of values by seed or set; None when there are none. Equal values have exactly their mean, and std 0."""
    if not values:
        return None
    found = list(values.values())
    return Summary(statistics.mean(found), statistics.stdev(found) if len(found) > 1 else None, len(found))


def summarise_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Summary | None:
    """Summary of values - reference, paired by seed over the seeds that both have."""
    return summarise({seed: values[seed] - reference[seed] for seed in values if seed in reference})


def find_interval(summary: Summary) -> tuple[float, float] | None:
    """Student's confidence interval of the mean, n - 1 degrees of freedom; None for a single value."""
    if summary.std is None:
        return None
    half = float(stdtrit(summary.n - 1, (1 + LEVEL) / 2)) * summary.std / math.sqrt(summary.n)
    return summary.mean - half, summary.mean + half


def needed_n(mean: float, std: float | None) -> int | None:
    """The fewest seeds, or sets, whose interval would exclude 0 if mean and std stayed as they are.

    None for a mean of 0, an unknown std (a single value), or more than `MAX_N`.
    """
    if mean == 0 or std is None:
        return None
    n = np.arange(2, MAX_N + 1)
    enough = stdtrit(n - 1, (1 + LEVEL) / 2) * std / np.sqrt(n) < abs(mean)
    return int(n[enough.argmax()]) if enough.any() else None
