"""Measures how much an ODE function depends on time: the quantity that vanishes by the paper's Equation 5."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.studies.node.network import OdeFunction

TIMES = (0.25, 0.5, 0.75, 1.0)
"""Times that are compared with t = 0."""


@dataclass(frozen=True)
class TimeAwareness:
    """Relative changes and shares of variance; see `measure_time_awareness`. None: a divisor is zero."""

    times: list[float]
    change: list[float | None]
    site_change: list[list[float | None]]
    site_share: list[float | None]


def _divide(part: Tensor, whole: Tensor) -> float | None:
    ratio = (part / whole).item()
    return ratio if math.isfinite(ratio) else None


def _compare(values: Tensor) -> list[float | None]:
    """||x_t - x_0|| / ||x_0|| for each t but the first; values [T, ...]."""
    first = values[0]
    return [_divide((value - first).norm(), first.norm()) for value in values[1:]]


def _share(values: Tensor) -> float | None:
    """Variance over the first dimension, averaged over the others, divided by the total variance; values [T, ...]."""
    return _divide(values.var(0, correction=0).mean(), values.var(correction=0))


def _list_times(times: Sequence[float], h: Tensor) -> list[Tensor]:
    """0 and these times, as scalars."""
    return [torch.tensor(t, dtype=h.dtype, device=h.device) for t in (0.0, *times)]


@torch.no_grad()
def measure_change(field: OdeFunction, h: Tensor, times: Sequence[float] = TIMES) -> list[float | None]:
    """||f(h, t) - f(h, 0)|| / ||f(h, 0)|| of an ODE function at features h [B, C, H, W], for each t; None: f is 0."""
    return _compare(torch.stack([field(t, h) for t in _list_times(times, h)]))


@torch.no_grad()
def measure_time_awareness(field: OdeFunction, h: Tensor) -> TimeAwareness:
    """Measure how much an ODE function depends on t, at features h [B, C, H, W].

    change: see `measure_change`. site_change: the same for the output n of the norm after each site, with the site's
    input fixed at its value for t = 0. site_share: the variance of n over t at fixed image, channel and pixel,
    averaged, divided by the total variance of n.
    """
    times = _list_times(TIMES, h)
    x, sites = field.activation(field.norm1(h)), []
    # The input of site 1 is that of t = 0, so that its change does not include the change of site 0.
    for site, norm in enumerate((field.norm2, field.norm3)):
        sites.append(torch.stack([norm(field.convolve(site, t, x)) for t in times]))  # [T, B, C, H, W]
        x = field.activation(sites[-1][0])
    return TimeAwareness(
        list(TIMES), measure_change(field, h), [_compare(site) for site in sites], [_share(site) for site in sites]
    )
