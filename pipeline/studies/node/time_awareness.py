"""How much an ODE function depends on time: the quantity that the paper says is lost."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.studies.node.network import OdeFunction

TIMES = (0.25, 0.5, 0.75, 1.0)
"""Compared with t = 0."""


@dataclass(frozen=True)
class TimeAwareness:
    """Relative changes and shares of variance; see `measure_time_awareness`. None: the divisor is zero."""

    times: list[float]
    change: list[float | None]
    site_change: list[list[float | None]]
    site_share: list[float | None]


def _divide(part: Tensor, whole: Tensor) -> float | None:
    ratio = (part / whole).item()
    return ratio if math.isfinite(ratio) else None


def _compare(values: Tensor) -> list[float | None]:
    """||x_t - x_0|| / ||x_0|| of values [T, ...]."""
    first = values[0]
    return [_divide((value - first).norm(), first.norm()) for value in values[1:]]


def _share(values: Tensor) -> float | None:
    """Variance over the first dimension, averaged over the others, in the variance over all; values [T, ...]."""
    return _divide(values.var(0, correction=0).mean(), values.var(correction=0))


@torch.no_grad()
def measure_time_awareness(field: OdeFunction, h: Tensor) -> TimeAwareness:
    """Dependence of an ODE function on t at features h [B, C, H, W].

    change: ||f(h, t) - f(h, 0)|| / ||f(h, 0)||. site_change: the same for each site's normalised sum of convolution and
    timestep embedding, with the site's input as it is at t = 0. site_share: the part of the normalised sum's variance
    that t makes: its variance over t at fixed image, channel and pixel, averaged, over its whole variance.
    """
    times = [torch.tensor(t, dtype=h.dtype, device=h.device) for t in (0.0, *TIMES)]
    changes = _compare(torch.stack([field(t, h) for t in times]))
    x, sites = field.activation(field.norm1(h)), []
    for site, norm in enumerate((field.norm2, field.norm3)):
        sites.append(torch.stack([norm(field.convolve(site, t, x)) for t in times]))
        x = field.activation(sites[-1][0])
    return TimeAwareness(list(TIMES), changes, [_compare(site) for site in sites], [_share(site) for site in sites])
