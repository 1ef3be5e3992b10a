"""The learning rate of EDM2 (Karras et al. 2024, arXiv 2312.02696, section 2.3)."""

import math


def decay_rate(rate: float, step: int, *, warmup: int, start: int | None) -> float:
    """The learning rate of a step, from 0: a linear ramp over `warmup` steps, then rate / sqrt(max(i / start, 1)).

    Where weights keep their size, the relative step falls only if the rate does.

    Args:
        start: step from which the rate falls; None: it stays.
    """
    ramp = min((step + 1) / warmup, 1.0) if warmup else 1.0
    return rate * ramp / math.sqrt(max(step / start, 1.0) if start else 1.0)
