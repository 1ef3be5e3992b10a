"""Dormand and Prince's 5(4) pair, step for step as torchdiffeq 0.2.5 does it, with one pass over memory a stage.

The stages of a step are the rows of one matrix, so that every combination of them is a matrix-vector product. Times are
Python floats; the only number that the host waits for is the error of a step (and two norms before the first).

Source: Dormand and Prince (1980), Shampine (1986); step control of Hairer, Norsett, Wanner, Solving Ordinary
Differential Equations I, II.4; constants and rules as torchdiffeq has them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
"""Times of the stages 1..6, in steps; stage 0 is the end of the step before (first same as last)."""
STAGES: tuple[tuple[float, ...], ...] = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Weights of the earlier stages in the state of the stages 1..6; the last one is the step's result."""
_RESULT = (*STAGES[-1], 0.0)
_ERROR = (
    35 / 384 - 1951 / 21600,
    0.0,
    500 / 1113 - 22642 / 50085,
    125 / 192 - 451 / 720,
    -2187 / 6784 + 12231 / 42400,
    11 / 84 - 649 / 6300,
    -1 / 60,
)
_MIDDLE = (
    6025192743 / 30085553152 / 2,
    0.0,
    51252292925 / 65400821598 / 2,
    -2691868925 / 45128329728 / 2,
    187940372067 / 1594534317056 / 2,
    -1776094331 / 19743644256 / 2,
    11237099 / 235043384 / 2,
)
UNUSED = 1
"""The stage of weight zero in result, error and interpolation: a part that no stage reads can be left out there."""
_SAFETY, _LARGEST, _SMALLEST, _ORDER = 0.9, 10.0, 0.2, 5
_TINY = 1e-300


class SolveError(ArithmeticError):
    """The solver cannot go on; the message says why."""


@dataclass(frozen=True)
class Tolerance:
    """What a step may err, and how many may be tried."""

    rtol: float
    atol: float
    max_steps: int


@dataclass(frozen=True)
class Step:
    """An accepted step."""

    start: float
    size: float
    index: int
    """Of the attempt that was accepted."""


@dataclass(frozen=True)
class Path:
    """The state at the end time and how it came about."""

    state: Tensor
    quadrature: Tensor | None
    steps: list[Step]
    interpolation: tuple[float, ...]
    """Weights of the last step's stages, in steps, in the state at the end time."""


Derivative = Callable[[Tensor, Tensor, Tensor, Tensor | None], None]
"""(t, state [N], out [N], quadrature [P] or None): writes the derivative to `out`, and to `quadrature` if asked."""


def interpolate(position: float) -> tuple[float, ...]:
    """Weights of the stages 0..6, in steps, in the quartic interpolant at `position` in [0, 1] of a step."""
    x = position
    result = -8 * x**4 + 14 * x**3 - 5 * x**2
    middle = 16 * x**4 - 32 * x**3 + 16 * x**2
    weights = [result * a + middle * b for a, b in zip(_RESULT, _MIDDLE, strict=True)]
    weights[0] += -2 * x**4 + 5 * x**3 - 4 * x**2 + x
    weights[-1] += 2 * x**4 - 3 * x**3 + x**2
    return tuple(weights)


def _measure(values: Tensor, blocks: Sequence[int]) -> Tensor:
    """Largest root mean square of consecutive blocks."""
    if len(blocks) == 1:
        norm: Tensor = torch.linalg.vector_norm(values) / math.sqrt(blocks[0])
        return norm
    norms = torch.stack(torch._foreach_norm(values.split(list(blocks))))
    return (norms * tabulate(tuple(1 / math.sqrt(block) for block in blocks), values.dtype, values.device)).max()


@cache
def tabulate(weights: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weights as a tensor, kept, so that a step copies nothing to a GPU."""
    return torch.tensor(weights, dtype=dtype, device=device)


def _combine(stages: Tensor, weights: tuple[float, ...], size: float) -> Tensor:
    """size * sum of weight times stage; stages [S, N]."""
    return torch.mv(stages[: len(weights)].T, tabulate(weights, stages.dtype, stages.device) * size)


def _time(t: float, like: Tensor) -> Tensor:
    return torch.full((), t, dtype=like.dtype, device=like.device)


class Integration:
    """A solve over a flat state [N], and a quadrature [P] whose derivative depends on the state alone.

    Args:
        derivative: see `Derivative`.
        blocks: sizes of the parts of the state; the error norm is the largest root mean square of a part.
        quadrature: its size P.
        judge: what of a quadrature counts in the error norm too, a linear map [P] to [Q].
        judged_blocks: sizes of the parts of what `judge` gives.
    """

    def __init__(
        self,
        derivative: Derivative,
        tolerance: Tolerance,
        blocks: Sequence[int],
        quadrature: int = 0,
        judge: Callable[[Tensor], Tensor] = lambda quadrature: quadrature,
        judged_blocks: Sequence[int] = (),
    ) -> None:
        self.derivative = derivative
        self.tolerance = tolerance
        self.blocks = blocks
        self.quadrature = quadrature
        self.judge = judge
        self.judged_blocks = judged_blocks

    def _scale(self, *states: Tensor) -> Tensor:
        size = states[0].abs() if len(states) == 1 else torch.maximum(states[0].abs(), states[1].abs())
        return size.mul_(self.tolerance.rtol).add_(self.tolerance.atol)

    def _norm(self, values: Tensor, judged: Tensor | None = None) -> Tensor:
        norm = _measure(values, self.blocks)
        return norm if judged is None else torch.maximum(norm, _measure(judged, self.judged_blocks))

    def _first_size(self, start: float, state: Tensor, k: Tensor, q: Tensor | None) -> float:
        """Hairer's starting step size; k[0] holds the derivative at the start; one more evaluation."""
        scale, atol = self._scale(state), self.tolerance.atol
        # The quadrature starts at zero: its scale is the absolute tolerance.
        q0 = self.judge(q[0]) / atol if q is not None else None
        d0, d1 = torch.stack([self._norm(state / scale), self._norm(k[0] / scale, q0)]).tolist()
        if not math.isfinite(d0 + d1):
            raise SolveError(f"the norm of the state or of its derivative is not finite at t = {start:.6g}")
        h0 = 0.01 * d0 / d1 if d0 >= 1e-5 and d1 >= 1e-5 else 1e-6
        self.derivative(_time(start + h0, state), state + h0 * k[0], k[1], q[1] if q is not None else None)
        q1 = self.judge(q[1] - q[0]) / atol if q is not None else None
        # NaN, where the derivative is not defined at this trial, decides nothing: max returns its first argument then.
        d2 = self._norm((k[1] - k[0]) / scale, q1).item() / h0
        if q is not None:
            q[UNUSED].nan_to_num_(0, 0, 0)  # it stays there, and 0 times NaN is NaN
        h1 = max(1e-6, h0 * 1e-3) if d1 <= 1e-15 and d2 <= 1e-15 else (0.01 / max(d1, d2, _TINY)) ** (1 / _ORDER)
        return min(100 * h0, h1)

    def _attempt(self, t: float, dt: float, state: Tensor, k: Tensor, q: Tensor | None) -> Tensor:
        """Fill the stages 1..6 and return the state at t + dt."""
        y = state
        for index, (node, weights) in enumerate(zip(NODES, STAGES, strict=True), start=1):
            y = state + _combine(k, weights, dt)
            time = _time(t + node * dt, state)
            if node == 1.0:  # just before the end, in case the derivative jumps there
                time = torch.nextafter(time, time - 1)
            self.derivative(time, y, k[index], q[index] if q is not None and index != UNUSED else None)
        return y

    def _judge(
        self, dt: float, states: tuple[Tensor, Tensor], k: Tensor, q: Tensor | None, totals: tuple[Tensor, Tensor]
    ) -> float:
        """Error of a step in units of the tolerance; `totals` are the judged quadratures before and after."""
        error = _combine(k, _ERROR, dt).div_(self._scale(*states))
        judged = self.judge(_combine(q, _ERROR, dt)) / self._scale(*totals) if q is not None else None
        return float(self._norm(error, judged))

    def run(self, state: Tensor, start: float, end: float) -> Path:
        """Integrate from `start` to `end` > start; state [N].

        Raises:
            SolveError: too many steps, a step size of zero, or a state that is not finite.
        """
        k = state.new_empty(len(_RESULT), state.numel())
        q = state.new_zeros(len(_RESULT), self.quadrature) if self.quadrature else None
        total = state.new_zeros(self.quadrature)
        self.derivative(_time(start, state), state, k[0], q[0] if q is not None else None)
        before = self.judge(total) if q is not None else total
        dt, t, steps = self._first_size(start, state, k, q), start, list[Step]()
        for index in range(self.tolerance.max_steps):
            if not t + dt > t:
                raise SolveError(f"underflow of the step size, {dt:.3g} at t = {t:.6g}")
            y = self._attempt(t, dt, state, k, q)
            grown = total + _combine(q, _RESULT, dt) if q is not None else total
            after = self.judge(grown) if q is not None else grown
            ratio = self._judge(dt, (state, y), k, q, (before, after))
            if math.isnan(ratio):
                raise SolveError(f"the state or its derivative is not finite at t = {t:.6g}")
            if ratio <= 1:
                steps.append(Step(t, dt, index))
                if t + dt >= end:
                    weights = interpolate((end - t) / dt)
                    scaled = torch.tensor([dt * weight for weight in weights], dtype=k.dtype, device=k.device)
                    last = total + torch.mv(q.T, scaled) if q is not None else None
                    final = state + torch.mv(k.T, scaled)
                    # An infinite state is also an infinite tolerance, so that no error ratio tells.
                    if not all(part.isfinite().all() for part in (final, last) if part is not None):
                        raise SolveError(f"the state is not finite at t = {end:.6g}")
                    return Path(final, last, steps, weights)
                t, state, total, before = t + dt, y, grown, after
                k[0] = k[-1]
                if q is not None:
                    q[0] = q[-1]
            dt *= _grow(ratio)
        raise SolveError(f"max_steps = {self.tolerance.max_steps} exceeded at t = {t:.6g}")


def _grow(ratio: float) -> float:
    """Factor on the step size after an error of `ratio` tolerances; it never shrinks after an accepted step."""
    if ratio == 0:
        return _LARGEST
    smallest = 1.0 if ratio < 1 else _SMALLEST
    return min(_LARGEST, max(_SAFETY / math.pow(ratio, 1 / _ORDER), smallest))
