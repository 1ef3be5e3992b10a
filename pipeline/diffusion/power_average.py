"""Power-function averages of weights, and any other length of them after the training (post-hoc EMA).

The average of exponent g after T steps weighs the state after step t by t^g: old states fade with a width that is a
fixed part of the training. Its relative standard deviation is the "length". Averages of two lengths, stored now and
then, span most others: their profiles t^g are known, so a least-squares fit of profiles gives the weights of a sum of
stored averages. Source: Karras et al. 2024, EDM2 (arXiv 2312.02696), section 3 and appendix C.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
LONGEST = math.sqrt(1 / 12)
"""Length of the plain mean, g = 0. Longer profiles would give the oldest states most."""
TRACKED = (0.05, 0.10)
"""Lengths that a training keeps; the paper's."""
CURVE = (0.02, 0.03, 0.05, 0.07, 0.10, 0.15, 0.20, 0.25)
"""Lengths of a curve over the length, ascending; those that are not tracked are made afterwards."""


def find_length(exponent: float) -> float:
    """Standard deviation of the profile t^g over the time trained: sqrt((g + 1) / ((g + 2)^2 (g + 3)))."""
    return math.sqrt((exponent + 1) / ((exponent + 2) ** 2 * (exponent + 3)))


def find_exponent(length: float) -> float:
    """The exponent of a length: the largest root of g^3 + 7 g^2 + (16 - length^-2) g + 12 - length^-2.

    Raises:
        ValueError: the length is not between 0 and `LONGEST`.
    """
    if not 0 < length < LONGEST:
        raise ValueError(
            f"length = {length:g}: allowed are lengths between 0 and {LONGEST:.4f}, that of the plain mean"
        )
    inverse = length**-2
    return float(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max())


def weigh_steps(steps: int, exponent: float) -> Array:
    """Weights [T] of the states after steps 1..T in the average: (i / T)^(g + 1) - ((i - 1) / T)^(g + 1).

    They follow from `PowerAverage.update`, whose factors cancel in pairs.
    """
    edges = (np.arange(steps + 1) / steps) ** (exponent + 1)
    weights: Array = np.diff(edges)
    return weights


@dataclass(frozen=True)
class Profile:
    """An average that was stored: after how many steps, and of which exponent."""

    step: int
    exponent: float


class PowerAverage:
    """The average of one length over the values of some tensors; it forgets the initial ones exactly.

    Args:
        values: tensors that a training changes in place, by name.
    """

    def __init__(self, values: Mapping[str, Tensor], length: float) -> None:
        self.exponent, self.step = find_exponent(length), 0
        self._values = [value.detach() for value in values.values()]
        self.averages = {name: value.detach().clone() for name, value in values.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the values after a step: average = b average + (1 - b) value, b = (1 - 1 / t)^(g + 1)."""
        self.step += 1
        kept = (1 - 1 / self.step) ** (self.exponent + 1)
        torch._foreach_lerp_(list(self.averages.values()), self._values, 1 - kept)


def multiply_profiles(left: Sequence[Profile], right: Sequence[Profile]) -> Array:
    """Inner products of profiles, [left, right]; each profile integrates to 1 over its own time (appendix C.3).

    Of (t, g) and (s, h) with t <= s: (g + 1) (h + 1) / (g + h + 1) (t / s)^h / s.
    """
    t, g = (np.array([getattr(one, key) for one in left], np.float64)[:, None] for key in ("step", "exponent"))
    s, h = (np.array([getattr(one, key) for one in right], np.float64)[None] for key in ("step", "exponent"))
    first, last, later = np.minimum(t, s), np.maximum(t, s), np.where(t > s, g, h)
    product: Array = (g + 1) * (h + 1) / (g + h + 1) * (first / last) ** later / last
    return product


def fit_profile(stored: Sequence[Profile], wanted: Profile) -> Array:
    """Factors [n] of the stored averages in the wanted one: the least-squares fit of its profile, with sum 1."""
    products = multiply_profiles(stored, stored)
    factors: Array = np.linalg.solve(products, multiply_profiles(stored, [wanted])[:, 0]).astype(np.float64)
    factors /= factors.sum()
    return factors


def predict_error(stored: Sequence[Profile], wanted: Profile, factors: Array) -> float:
    """Relative error of the fit in the norm of profiles.

    It is the relative error of the averages themselves where the states of all steps are independent noise, and more
    than that where neighbouring states are alike, as in a training.
    """
    norm = multiply_profiles([wanted], [wanted]).item()
    cross = multiply_profiles(stored, [wanted])[:, 0]
    square = float(norm - 2 * factors @ cross + factors @ multiply_profiles(stored, stored) @ factors)
    return math.sqrt(max(square, 0.0) / norm)


def combine_averages(averages: Sequence[Mapping[str, Tensor]], factors: Array) -> dict[str, Tensor]:
    """The sum of stored averages with factors, computed in float64, in the first one's dtypes."""
    first, whole = averages[0], dict[str, Tensor]()
    for name, value in first.items():
        terms = (factor * one[name].double() for one, factor in zip(averages, factors.tolist(), strict=True))
        whole[name] = sum(terms, torch.zeros_like(value, dtype=torch.float64)).to(value.dtype)
    return whole
