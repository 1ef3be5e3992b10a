"""Trains a linear network by gradient descent and by gradient flow, and compares both with the mixed formula."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.compute.seeding import derive_seed
from pipeline.ode.solve import Method, SolveError
from pipeline.ode.waypoints import count_evaluations, follow
from pipeline.schema.study import MeasureError
from pipeline.studies.linear.gram import (
    Array,
    descend,
    draw_gram,
    find_flow,
    find_invariant,
    find_rates,
    read_product,
)
from pipeline.studies.linear.mixed import find_mixed_flow, solve_scalar
from pipeline.studies.linear.study import MOMENTS, LinearRecord, LinearRun

_MAX_STEPS = 100_000
_BESIDE = 3
"""Singular values that a record keeps beside those of the signal."""


@dataclass(frozen=True)
class Problem:
    """What is drawn for a run, and its step size."""

    signal: Array
    """[d, d], entries of root mean square 1."""
    data: Array
    """Signal and noise, [d, d]."""
    gram: Array
    """Of the initial weights, [2d, 2d]."""
    eta: float
    """Step size."""


def draw_problem(run: LinearRun) -> Problem:
    """Signal, noise and initial weights; of one seed, signal and noise are the same for all widths and thresholds.

    The signal is C D^T, scaled, with C and D [d, k] standard normal.
    """
    network, task = run.network, np.random.default_rng(derive_seed(run.seed, "task"))
    factors = task.standard_normal((2, network.size, run.signal.rank))
    signal = factors[0] @ factors[1].T
    signal *= network.size / np.linalg.norm(signal)
    data = signal + run.signal.noise * task.standard_normal(signal.shape)
    weights = np.random.default_rng(derive_seed(run.seed, "weights"))
    gram = draw_gram(network.size, network.width, network.threshold, weights)
    eta = run.descent.step / max(float(np.linalg.norm(signal, 2)), network.threshold)
    return Problem(signal, data, gram, eta)


def _repeat(step: Callable[[Array], Array], start: Array, count: int) -> Iterator[Array]:
    """The start, and what each step makes of what was before.

    Raises:
        MeasureError: it is not finite.
    """
    state = start
    yield state
    for index in range(count):
        with np.errstate(over="ignore", invalid="ignore"):  # said below
            state = step(state)
        if not np.isfinite(state).all():
            raise MeasureError("gradient descent diverges: the step size is too large", index)
        yield state


class _Field(nn.Module):
    """A vector field (t, x) on the CPU from a function of the state as an array.

    NumPy's products and decompositions are the same on every CPU, and faster than torch's where those must be.
    """

    def __init__(self, derive: Callable[[Array], Array]) -> None:
        super().__init__()
        self.derive = derive

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The derivative, in the shape of x."""
        return torch.from_numpy(self.derive(x.numpy()))


def _solve(derive: Callable[[Array], Array], start: Array, times: Sequence[float], rtol: float) -> tuple[Array, int]:
    """States [N, ...] at times by dopri5, and the function evaluations (NFE) of one solve from the first to the last.

    Raises:
        MeasureError: the solver gave up.
    """
    method = Method("dopri5", "native", rtol, rtol / 10, _MAX_STEPS, gradient="direct", adjoint_norm="mixed")
    field, x = _Field(derive), torch.from_numpy(start.copy())
    try:
        states = follow(field, x, times, method)
        nfe = count_evaluations(field, x, times[0], times[-1], method)
    except SolveError as error:
        raise MeasureError(f"dopri5 gave up: {error}") from None
    return torch.stack(states).numpy(), nfe


def find_distance(one: Array, other: Array, data: Array) -> float:
    """The greatest |A - B| / |Y| over pairs of matrices [N, d, d]."""
    return float(np.linalg.norm(one - other, axis=(1, 2)).max() / np.linalg.norm(data))


def find_truncated(problem: Problem, rank: int) -> float:
    """Relative squared error of the data's best approximation of a rank: its largest singular values alone."""
    left, values, right = np.linalg.svd(problem.data)
    best = (left[:, :rank] * values[:rank]) @ right[:rank]
    return _find_errors(best[None], problem.signal)[0]


def find_lazy(problem: Problem) -> float:
    """The least relative squared error of lazy training, A(c) = (1 - c) A(0) + c Y with c from 0 to 1."""
    start = read_product(problem.gram) - problem.signal
    change = problem.data - read_product(problem.gram)
    c = min(max(-float((start * change).sum() / (change**2).sum()), 0.0), 1.0)
    return _find_errors((problem.signal + start + c * change)[None], problem.signal)[0]


def _find_errors(products: Array, signal: Array) -> list[float]:
    """|A - signal|^2 / |signal|^2 of matrices [N, d, d]."""
    errors: list[float] = (((products - signal) ** 2).sum((1, 2)) / (signal**2).sum()).tolist()
    return errors


def _score(problem: Problem, rank: int, products: Array, formula: Array) -> dict[str, float]:
    """What became of the signal; products of both [N, d, d], at every step."""
    errors = _find_errors(products, problem.signal)
    best = int(np.argmin(errors))
    values = np.linalg.svd(products[best], compute_uv=False)
    truncated, lazy = find_truncated(problem, rank), find_lazy(problem)
    return {
        "test_error": errors[best],
        "test_error_formula": min(_find_errors(formula, problem.signal)),
        "iterations": float(best),
        "stable_rank": float((values**2).sum() / values[0] ** 2),
        "truncated": truncated,
        "lazy": lazy,
        "above_truncated": errors[best] - truncated,
        "above_lazy": errors[best] - lazy,
    }


def _compare_flows(run: LinearRun, problem: Problem, products: Array, moments: Sequence[int]) -> dict[str, float]:
    """Gradient flow and formula by dopri5, at the moments of gradient descent whose products [N, d, d] are given."""
    times, data, rtol = [problem.eta * moment for moment in moments], problem.data, run.descent.rtol
    grams, nfe = _solve(lambda gram: find_flow(gram, data), problem.gram, times, rtol)
    start, s = read_product(problem.gram), run.network.threshold
    formula, nfe_formula = _solve(lambda product: find_mixed_flow(product, data, s), start, times, rtol)
    size = len(data)
    flow = grams[:, :size, size:]
    found = {
        "deviation_flow": find_distance(flow, formula, data),
        "step_error": find_distance(products, flow, data),
        "nfe_flow": float(nfe),
        "nfe_formula": float(nfe_formula),
    }
    if size == 1:
        exact = solve_scalar(start.item(), data.item(), find_invariant(problem.gram), np.array(times))
        found["closed_error"] = find_distance(flow, exact[:, None, None], data)
    return found


def _measure_invariant(run: LinearRun, problem: Problem) -> dict[str, float]:
    """Of a scalar network: the invariant over s^2, a product of two independent chi-square variables over w^2."""
    w = run.network.width
    return {
        "invariant": find_invariant(problem.gram) / run.network.threshold**2,
        "invariant_exact": 1.0,
        "invariant_stderr": float(np.sqrt(4 / w + 4 / w**2)),
    }


def _shorten(values: Array) -> list[list[float]]:
    """Numbers [N, K] for a figure: six digits."""
    return [[float(f"{value:.6g}") for value in row] for row in values]


def measure_linear(run: LinearRun) -> LinearRecord:
    """Train, solve and compare.

    Raises:
        MeasureError: gradient descent diverged, or a solver gave up.
    """
    problem, s, count = draw_problem(run), run.network.threshold, run.descent.iterations
    data, eta, rank = problem.data, problem.eta, run.signal.rank
    moments = sorted({round(part * count / MOMENTS) for part in range(MOMENTS + 1)})
    products, rates = [], []
    for index, gram in enumerate(_repeat(lambda gram: descend(gram, data, eta), problem.gram, count)):
        products.append(read_product(gram).copy())
        if index in moments:
            rates.append(find_rates(gram))
    by_descent = np.array(products)  # [N, d, d]
    step = _repeat(lambda product: product + eta * find_mixed_flow(product, data, s), products[0], count)
    by_formula = np.array(list(step))  # likewise
    values, speeds = (np.array(part) for part in zip(*rates, strict=True))  # both [moments, d]
    found: dict[str, Any] = dict.fromkeys(LinearRecord.model_fields.keys() - {"status", "settings"})
    found |= _score(problem, rank, by_descent, by_formula) if run.signal.noise else {}
    found |= _compare_flows(run, problem, by_descent[moments], moments) if run.descent.flow else {}
    found |= _measure_invariant(run, problem) if len(data) == 1 else {}
    kept = rank + _BESIDE
    return LinearRecord.model_validate({
        **found,
        "deviation": find_distance(by_descent, by_formula, data),
        "rate_error": float(np.sqrt(((speeds / np.sqrt(values**2 + s**2) - 1) ** 2).mean())),
        "moments": moments,
        "singular": _shorten(values[:, :kept]),
        "singular_formula": _shorten(np.linalg.svd(by_formula[moments], compute_uv=False)[:, :kept]),
        "rates": _shorten(speeds[:, :kept]),
    })  # fmt: skip
