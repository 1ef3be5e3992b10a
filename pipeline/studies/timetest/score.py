"""The score of the time test, and the training that all its networks share."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.schema.study import MeasureError
from pipeline.studies.timetest.study import TimetestTraining

BLOCK = 10
"""Optimiser steps whose mean loss is one point of the loss curve."""
_ROUNDING = 1e-24
"""A variance of the target, relative to its mean square, that is rounding."""


@dataclass(frozen=True)
class Score:
    """How far a network is from a target that varies with time; see `score_outputs`."""

    r: float | None
    r_centred: float | None
    error: float
    change: float
    floor: float


@dataclass(frozen=True)
class Outcome:
    """What the test of a network found."""

    score: Score
    told: float
    """Exact training loss of the best network that is told the time."""
    blind: float
    """The same without the time."""
    losses: list[float]
    """Of each training step."""
    share_initial: float
    share: float
    """Share of variance that time makes behind the norms, before and after training."""
    num_params: int
    nfe: float | None = None
    flow: Score | None = None
    """Of the end states of solves; None: no ODE."""


def score_outputs(outputs: Tensor, targets: Tensor) -> Score:
    """Score outputs f against targets v, both [T, ...], at the same inputs at each of T times.

    For a network without the time, f(t, x) = g(x), the mean over the times of |g - v_t|^2 is
    |g - v_mean|^2 + Var_t v for every single input. So R >= 1, whatever g is, with equality at g = v_mean; and the
    centred R is 1. No sampling error enters.
    """
    f, v = outputs.double(), targets.double()
    f_centred, v_centred = f - f.mean(0), v - v.mean(0)
    floor, size = v_centred.square().mean().item(), v.square().mean().item()
    if floor <= _ROUNDING * size:  # the target does not vary
        floor = 0.0

    def divide(error: Tensor) -> float | None:
        return error.square().mean().item() / floor if floor > 0 else None

    return Score(
        r=divide(f - v),
        r_centred=divide(f_centred - v_centred),
        error=(f - v).square().mean().item() / size,
        change=(f.amax(0) - f.amin(0)).max().item(),
        floor=floor,
    )


def choose_rate(training: TimetestTraining, step: int) -> float:
    """The learning rate of a step, from 0: linear warm-up times a cosine that falls to 0."""
    warmup = min((step + 1) / training.warmup, 1.0) if training.warmup else 1.0
    return training.learning_rate * warmup * (1 + math.cos(math.pi * step / training.steps)) / 2


def fit(network: nn.Module, loss_of: Callable[[int], Tensor], training: TimetestTraining) -> list[float]:
    """Train with Adam; returns the loss of each step.

    Raises:
        MeasureError: a loss is not finite.
    """
    parameters, losses = list(network.parameters()), []
    optimiser = torch.optim.Adam(parameters, fused=True)
    for step in range(training.steps):
        loss = loss_of(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if training.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, training.clip)
        for group in optimiser.param_groups:
            group["lr"] = choose_rate(training, step)
        optimiser.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise MeasureError(f"the training loss is {losses[-1]}", step)
    return losses


def scale_losses(losses: list[float], told: float, blind: float) -> list[float]:
    """The loss curve, one point a block: 0 for the told optimum, 1 for the blind one, if the time is worth anything."""
    gap = blind - told if blind > told else 1.0
    blocks = [losses[start : start + BLOCK] for start in range(0, len(losses), BLOCK)]
    return [(math.fsum(block) / len(block) - told) / gap for block in blocks]


def find_half(curve: list[float]) -> float | None:
    """First step at which the loss curve is below one half; None: never."""
    return next((float((index + 1) * BLOCK) for index, value in enumerate(curve) if value < 0.5), None)


def average_share(shares: Iterable[float | None]) -> float:
    """Mean over sites; a site whose norm gives zeros counts as 0."""
    values = [share or 0.0 for share in shares]
    return math.fsum(values) / len(values)
