"""Summaries over seeds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Mean and spread over n seeds."""

    mean: float
    std: float | None
    """Sample standard deviation (n - 1); None for a single seed."""
    n: int


def summarise(values: Mapping[int, float]) -> Summary | None:
    """Summary of values by seed; None when there are none."""
    if not values:
        return None
    n = len(values)
    mean = math.fsum(values.values()) / n
    if n == 1:
        return Summary(mean, None, 1)
    return Summary(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values.values()) / (n - 1)), n)


def summarise_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Summary | None:
    """Summary of values - reference, paired by seed over the seeds that both have."""
    return summarise({seed: values[seed] - reference[seed] for seed in values if seed in reference})
