"""A mean that is missing if one of its values is."""

from collections.abc import Sequence
from statistics import fmean


def average(values: Sequence[float | None]) -> float | None:
    """Mean of the values; None if one of them is None."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
