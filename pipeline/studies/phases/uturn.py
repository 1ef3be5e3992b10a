"""U-turns: a sample goes to a noise level and comes back by ancestral sampling; does it come back to its mode?"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.compute.seeding import make_generator
from pipeline.diffusion.ancestral import follow_reverse
from pipeline.diffusion.continuous import linear_path
from pipeline.diffusion.targets import Mixture
from pipeline.diffusion.time_change import bend
from pipeline.studies.phases.study import PhasesRecord, Target, TurnRun

Array = NDArray[np.float64]
_NODES = np.linspace(-9, 9, 2001)
"""Of the quadrature over a standard normal; the rule of trapezoids has all digits for what is so smooth."""


def make_mixture(target: Target) -> Mixture:
    """The target, with mu = (1, ..., 1)."""
    return Mixture(target.dimension, target.weight, 1.0, target.spread)


def find_return(mixture: Mixture, u: float, start: int) -> float:
    """Probability to come back to mu from the mode `start` mu, exact: a U-turn draws x_0 anew given x_u.

    The log odds of the modes are 2 h + 2 S s + 2 sqrt(S) g with g ~ N(0, 1) and S = u^2 r^2 d / D: their mean over g.
    """
    variance = (1 - u) ** 2 + (mixture.spread * u) ** 2
    signal = u * mixture.distance * math.sqrt(mixture.dimension / variance)
    density = np.exp(-(_NODES**2) / 2)
    odds = mixture.tilt + signal**2 * start + signal * _NODES
    return float((density * (1 + np.tanh(odds)) / 2).sum() / density.sum())


def turn(
    mixture: Mixture, u: float, start: int, samples: int, steps: int, window: float, draw: Callable[[], Array]
) -> float:
    """Share of samples that come back to mu, by simulation of the mean over coordinates, which is all that matters.

    Args:
        start: the mode that they come from: 1 or -1.
        window: width in u of the part that gets half of the steps.
        draw: standard normal noise [1, samples].
    """
    root = math.sqrt(mixture.dimension)
    x0 = start * mixture.distance + mixture.spread * draw() / root
    x = u * x0 + (1 - u) * draw() / root
    grid = (1 - u) * bend(1 - window / (1 - u)).make_grid(steps)
    ends = follow_reverse(linear_path, mixture.predict_pair, x, grid, lambda: draw() / root)
    return float((ends[0] > 0).sum()) / samples


def measure_turn(run: TurnRun) -> PhasesRecord:
    """Simulated shares of returns beside the exact ones, and their balance."""
    mixture, samples = make_mixture(run.target), run.turn.samples
    root = math.sqrt(mixture.dimension)
    u, window = run.turn.depth / root, run.target.k / root

    def simulate(start: int) -> tuple[float, float]:
        generator = make_generator("cpu", run.seed, "turn", start)

        def draw() -> Array:
            noise: Array = torch.randn(1, samples, generator=generator, dtype=torch.float64).numpy()
            return noise

        share = turn(mixture, u, start, samples, run.turn.steps_back, window, draw)
        middle = (share * samples + 2) / (samples + 4)  # never 0 or 1 (Agresti and Coull 1998)
        return share, math.sqrt(middle * (1 - middle) / (samples + 4))

    (stay, stay_error), (cross, cross_error) = simulate(1), simulate(-1)
    p = mixture.weight
    return PhasesRecord(
        stay=stay,
        stay_stderr=stay_error,
        stay_exact=find_return(mixture, u, 1),
        cross=cross,
        cross_stderr=cross_error,
        cross_exact=find_return(mixture, u, -1),
        balance=p * (1 - stay) - (1 - p) * cross,
        balance_stderr=math.hypot(p * stay_error, (1 - p) * cross_error),
        balance_exact=0.0,
    )
