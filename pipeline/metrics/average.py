"""Means of which one that is missing leaves none."""

from collections.abc import Sequence
from statistics import fmean


def average(values: Sequence[float | None]) -> float | None:
    """Mean; None if one of the values is."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
