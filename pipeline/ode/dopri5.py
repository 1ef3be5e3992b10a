"""The dopri5 solver: Dormand and Prince's 5(4) pair. It takes the same steps as torchdiffeq 0.2.5.

The stages of a step are the rows of one matrix, so each weighted sum of stages is one matrix-vector product. Times are
Python floats. The host waits for the GPU once per step, for the error, and twice before the first step.

Sources: Dormand and Prince 1980 (tableau: Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, table
5.2); Shampine 1986 (interpolation); the same book, section II.4 (step sizes); torchdiffeq 0.2.5 (constants and rules).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
"""Times of stages 1..6, as fractions of the step. Stage 0 is the last stage of the step before."""
STAGES: tuple[tuple[float, ...], ...] = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Row i: weights of stages 0..i in the state at which stage i + 1 is evaluated. The last row gives the result."""
# Weights of stages 0..6: in the result (order 5), in its error (order 5 minus order 4), and in the state mid-step.
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
"""The stage with weight zero in result, error and interpolation: the quadrature is not evaluated there."""
_SAFETY, _LARGEST, _SMALLEST, _ORDER = 0.9, 10.0, 0.2, 5
_TINY = 1e-300


class SolveError(ArithmeticError):
    """The solver gave up; the message says why."""


@dataclass(frozen=True)
class Tolerance:
    """Error tolerances and step limit."""

    rtol: float
    atol: float
    max_steps: int


@dataclass(frozen=True)
class Step:
    """An accepted step."""

    start: float
    size: float
    index: int
    """Number of the accepted attempt, from 0; rejected attempts count too."""


@dataclass(frozen=True)
class Path:
    """The state at the end time, and the steps that led to it."""

    state: Tensor
    quadrature: Tensor | None
    steps: list[Step]
    interpolation: tuple[float, ...]
    """Weights of the last step's stages in the state at the end time, as fractions of that step."""


Derivative = Callable[[Tensor, Tensor, Tensor, Tensor | None], None]
"""(t, state [N], out [N], quadrature [P] or None): writes the derivative to `out`, and to `quadrature` if given."""


def interpolate(position: float) -> tuple[float, ...]:
    """Weights of stages 0..6 in the quartic interpolant at `position`, a fraction of the step in [0, 1].

    The quartic matches the state at the start, middle and end of the step, and the derivative at both ends. Source:
    Shampine 1986; torchdiffeq 0.2.5, interp.py.
    """
    x = position
    result = -8 * x**4 + 14 * x**3 - 5 * x**2
    middle = 16 * x**4 - 32 * x**3 + 16 * x**2
    weights = [result * a + middle * b for a, b in zip(_RESULT, _MIDDLE, strict=True)]
    # The derivatives at both ends are stages 0 and 6.
    weights[0] += -2 * x**4 + 5 * x**3 - 4 * x**2 + x
    weights[-1] += 2 * x**4 - 3 * x**3 + x**2
    return tuple(weights)


def _measure(values: Tensor, blocks: Sequence[int]) -> Tensor:
    """Largest root mean square over consecutive blocks of `values` [N]."""
    if len(blocks) == 1:
        norm: Tensor = torch.linalg.vector_norm(values) / math.sqrt(blocks[0])
        return norm
    norms = torch.stack(torch._foreach_norm(values.split(list(blocks))))
    return (norms * tabulate(tuple(1 / math.sqrt(block) for block in blocks), values.dtype, values.device)).max()


@cache
def tabulate(weights: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weights as a tensor; cached, so that a step copies nothing to the GPU."""
    return torch.tensor(weights, dtype=dtype, device=device)


def _combine(stages: Tensor, weights: tuple[float, ...], size: float) -> Tensor:
    """size * sum of weight * stage: [S, N] to [N]."""
    return torch.mv(stages[: len(weights)].T, tabulate(weights, stages.dtype, stages.device) * size)


def _time(t: float, like: Tensor) -> Tensor:
    return torch.full((), t, dtype=like.dtype, device=like.device)


class Integration:
    """Integrates a flat state [N]; optionally also a quadrature [P], whose derivative depends on the state alone.

    Args:
        derivative: see `Derivative`.
        blocks: sizes of the blocks of the state. The error norm is the largest root mean square over blocks.
        quadrature: size P; 0 for none.
        judge: linear map [P] to [Q]: the part of the quadrature that enters the error norm.
        judged_blocks: sizes of the blocks of that part.
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
        """The first step size, by one more evaluation; k[0] holds the derivative at the start.

        Source: Hairer, Norsett, Wanner, section II.4, "Starting Step Size"; torchdiffeq 0.2.5.
        """
        scale, atol = self._scale(state), self.tolerance.atol
        # The quadrature starts at zero: its scale is the absolute tolerance.
        q0 = self.judge(q[0]) / atol if q is not None else None
        d0, d1 = torch.stack([self._norm(state / scale), self._norm(k[0] / scale, q0)]).tolist()
        if not math.isfinite(d0 + d1):
            raise SolveError(f"the norm of the state or of its derivative is not finite at t = {start:.6g}")
        h0 = 0.01 * d0 / d1 if d0 >= 1e-5 and d1 >= 1e-5 else 1e-6
        self.derivative(_time(start + h0, state), state + h0 * k[0], k[1], q[1] if q is not None else None)
        q1 = self.judge(q[1] - q[0]) / atol if q is not None else None
        # If the derivative is not defined here, d2 is NaN, and max(d1, d2) below returns d1.
        d2 = self._norm((k[1] - k[0]) / scale, q1).item() / h0
        if q is not None:
            q[UNUSED].nan_to_num_(0, 0, 0)  # no step overwrites this row, and weight 0 times NaN is NaN
        h1 = max(1e-6, h0 * 1e-3) if d1 <= 1e-15 and d2 <= 1e-15 else (0.01 / max(d1, d2, _TINY)) ** (1 / _ORDER)
        return min(100 * h0, h1)

    def _attempt(self, t: float, dt: float, state: Tensor, k: Tensor, q: Tensor | None) -> Tensor:
        """Compute stages 1..6 into k [7, N] and q; return the state at t + dt."""
        y = state
        for index, (node, weights) in enumerate(zip(NODES, STAGES, strict=True), start=1):
            y = state + _combine(k, weights, dt)
            time = _time(t + node * dt, state)
            if node == 1.0:  # torchdiffeq evaluates just before the end, in case the derivative jumps there
                time = torch.nextafter(time, time - 1)
            self.derivative(time, y, k[index], q[index] if q is not None and index != UNUSED else None)
        return y

    def _judge(
        self, dt: float, states: tuple[Tensor, Tensor], k: Tensor, q: Tensor | None, totals: tuple[Tensor, Tensor]
    ) -> float:
        """Error of a step over its tolerance; the step is accepted if it is at most 1.

        The tolerance is atol + rtol max(|y0|, |y1|), elementwise (Hairer, Norsett, Wanner, section II.4).

        Args:
            states: before and after the step, each [N].
            totals: what `judge` gives for the quadrature before and after, each [Q].
        """
        error = _combine(k, _ERROR, dt).div_(self._scale(*states))
        judged = self.judge(_combine(q, _ERROR, dt)) / self._scale(*totals) if q is not None else None
        return float(self._norm(error, judged))

    def run(self, state: Tensor, start: float, end: float) -> Path:
        """Integrate from `start` to `end` > start; state [N].

        Raises:
            SolveError: too many steps, underflow of the step size, or a state that is not finite.
        """
        k = state.new_empty(len(_RESULT), state.numel())  # stages [7, N]
        q = state.new_zeros(len(_RESULT), self.quadrature) if self.quadrature else None  # [7, P]
        total = state.new_zeros(self.quadrature)  # the quadrature so far [P]
        self.derivative(_time(start, state), state, k[0], q[0] if q is not None else None)
        before = self.judge(total) if q is not None else total
        dt, t, steps = self._first_size(start, state, k, q), start, list[Step]()
        for index in range(self.tolerance.max_steps):
            if not t + dt > t:  # also true for NaN
                raise SolveError(f"underflow of the step size, {dt:.3g} at t = {t:.6g}")
            y = self._attempt(t, dt, state, k, q)
            grown = total + _combine(q, _RESULT, dt) if q is not None else total
            after = self.judge(grown) if q is not None else grown
            ratio = self._judge(dt, (state, y), k, q, (before, after))
            if math.isnan(ratio):
                raise SolveError(f"the state or its derivative is not finite at t = {t:.6g}")
            if ratio <= 1:
                steps.append(Step(t, dt, index))
                if t + dt >= end:  # as in torchdiffeq, the last step overshoots and the end is interpolated
                    weights = interpolate((end - t) / dt)
                    scaled = torch.tensor([dt * weight for weight in weights], dtype=k.dtype, device=k.device)
                    last = total + torch.mv(q.T, scaled) if q is not None else None
                    final = state + torch.mv(k.T, scaled)
                    # An infinite state has an infinite tolerance, so the error ratio does not show it.
                    if not all(part.isfinite().all() for part in (final, last) if part is not None):
                        raise SolveError(f"the state is not finite at t = {end:.6g}")
                    return Path(final, last, steps, weights)
                t, state, total, before = t + dt, y, grown, after
                k[0] = k[-1]  # first same as last
                if q is not None:
                    q[0] = q[-1]
            dt *= _grow(ratio)
        raise SolveError(f"max_steps = {self.tolerance.max_steps} exceeded at t = {t:.6g}")


def _grow(ratio: float) -> float:
    """Factor for the next step size, 0.9 / ratio^(1/5), limited to [0.2, 10]; `ratio` is the error over its tolerance.

    Source: Hairer, Norsett, Wanner, section II.4. Differs: a ratio below 1 never shrinks the step, as in torchdiffeq.
    """
    if ratio == 0:
        return _LARGEST
    smallest = 1.0 if ratio < 1 else _SMALLEST
    return min(_LARGEST, max(_SAFETY / math.pow(ratio, 1 / _ORDER), smallest))
