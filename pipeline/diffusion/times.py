"""How a training draws its times: uniform numbers of less variance, and laws of the time.

A mean over B times has the variance (E v + s) / B. v is the loss's variance at a time, which nothing here can reduce; s
is the variance of its mean m(t) over the times that a draw chooses among: Var m for independent times, and for
stratified ones the mean variance of m within a stratum.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Draws = Literal["independent", "stratified", "systematic"]
Law = Literal["uniform", "soft", "lognormal"]
LOG_MEAN, LOG_SD = -1.2, 1.2
"""Of log(sigma / alpha): Karras et al. 2022, table 1."""


def draw_uniform(draws: Draws, batches: int, batch: int, strata: int, generator: torch.Generator) -> Tensor:
    """Numbers [batches, batch] in [0, 1), float64; a batch's mean of a function has no bias.

    independent: as they come. stratified: as many in each of `strata` equal parts, which divide the batch. systematic:
    one number a batch, and the same in each of `batch` parts (Kingma et al. 2021, VDM, appendix I.1).
    """
    if draws == "systematic":
        start = torch.rand(batches, 1, dtype=torch.float64, generator=generator)
        return (start + torch.arange(batch, dtype=torch.float64)) / batch
    u = torch.rand(batches, batch, dtype=torch.float64, generator=generator)
    if draws == "independent":
        return u
    assert batch % strata == 0, (batch, strata)
    return (u + torch.arange(batch) % strata) / strata


def draw_floors(least: float, batches: int, generator: torch.Generator) -> Tensor:
    """The lowest time of each batch [batches, 1] under soft truncation: density 1 / t on [least, 1], up to a factor.

    Kim et al. 2022, soft truncation, section 4.
    """
    u = torch.rand(batches, 1, dtype=torch.float64, generator=generator)
    return torch.exp(math.log(least) * (1 - u))


def spread_lognormal(u: Tensor) -> Tensor:
    """Times of the cosine path with a normal log(sigma / alpha), from uniform numbers (Karras et al. 2022, table 1)."""
    from scipy.special import ndtri

    ratio = np.exp(LOG_MEAN + LOG_SD * ndtri(u.numpy()))
    return torch.from_numpy(np.arctan(ratio) * (2 / np.pi))
