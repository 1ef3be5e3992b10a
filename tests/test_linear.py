"""Linear networks: the Gram matrix against the weights themselves, the formula against its limits, exact solutions."""

from typing import Any

import numpy as np
import pytest
import torch
from problems import ROOT, resolve
from scipy import integrate, linalg
from torch import nn

from pipeline.metrics.bench import Bench
from pipeline.ode.solve import Method
from pipeline.ode.waypoints import count_evaluations, follow
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute
from pipeline.schema.project import load_project
from pipeline.schema.study import MeasureError
from pipeline.studies.linear import gram as grams
from pipeline.studies.linear.cost import price
from pipeline.studies.linear.measure import draw_problem, find_lazy, find_truncated, measure_linear
from pipeline.studies.linear.mixed import find_mixed_flow, find_roots, solve_scalar
from pipeline.studies.linear.study import LinearRecord, LinearRun

RNG = np.random.default_rng
METHOD = Method("dopri5", "native", 1e-9, 1e-10, 10_000, gradient="direct", adjoint_norm="mixed")


def make_run(case: str, seed: int = 0, **fields: Any) -> LinearRun:
    run = resolve("linear", case, seed=seed).model_dump()
    for part in ("network", "signal", "descent"):
        run[part] |= {key: value for key, value in fields.items() if key in run[part]}
    return LinearRun.model_validate(run)


def measure(case: str, seed: int = 0, **fields: Any) -> LinearRecord:
    return measure_linear(make_run(case, seed, **fields))


def stack(w2: np.ndarray, w1: np.ndarray) -> np.ndarray:
    """The Gram matrix of weights."""
    z = np.vstack([w2, w1.T])
    return z @ z.T


def draw_weights(size: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = RNG(seed)
    return generator.standard_normal((size, width)) * 0.1, generator.standard_normal((width, size)) * 0.1


@pytest.mark.parametrize("width", [2, 9, 40])
def test_the_gram_matrix_descends_as_the_weights_do_by_automatic_differentiation(width: int):
    w2, w1 = (torch.tensor(w, requires_grad=True) for w in draw_weights(4, width))
    data = RNG(1).standard_normal((4, 4))
    gram = stack(w2.detach().numpy(), w1.detach().numpy())
    optimiser = torch.optim.SGD([w2, w1], lr=0.05)
    for _ in range(30):
        optimiser.zero_grad()
        ((w2 @ w1 - torch.from_numpy(data)).square().sum() / 2).backward()
        optimiser.step()
        gram = grams.descend(gram, data, 0.05)
    assert np.allclose(gram, stack(w2.detach().numpy(), w1.detach().numpy()), rtol=1e-11, atol=1e-13)
    assert np.allclose(grams.read_product(gram), (w2 @ w1).detach().numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("width", [1, 3, 4, 50])
def test_gram_matrices_have_the_moments_of_random_weights(width: int):
    """Of d = 2, so that the narrow ones have less than full rank; s = 2."""
    generator, draws = RNG(0), 8_000
    drawn = np.array([grams.draw_gram(2, width, 2.0, generator) for _ in range(draws)])
    mean, variance = drawn.mean(0), drawn.var(0)
    expected = (4 / width) * (1 + np.eye(4))  # (s / w)^2 w, twice that on the diagonal
    assert np.allclose(mean, 2 * np.eye(4), atol=4 * np.sqrt(8 / width / draws))
    assert np.allclose(variance, expected, rtol=0.2)
    assert np.linalg.matrix_rank(drawn[0]) == min(width, 4)


def test_the_flow_conserves_what_the_weights_do_and_descent_drifts_with_its_step():
    """W1 W1^T - W2^T W2 is conserved; its eigenvalues are those of Q diag(-1, 1)."""
    data, signs = RNG(1).standard_normal((4, 4)), np.repeat([-1.0, 1.0], 4)

    def find_conserved(gram: np.ndarray) -> np.ndarray:
        return np.sort(np.linalg.eigvals(gram * signs).real)

    start = stack(*draw_weights(4, 30))

    def drift(eta: float) -> float:
        gram = start
        for _ in range(round(2 / eta)):
            gram = grams.descend(gram, data, eta)
        return float(np.abs(find_conserved(gram) - find_conserved(start)).max())

    class Flow(nn.Module):
        def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(grams.find_flow(x.numpy(), data))

    states = follow(Flow(), torch.from_numpy(start), [0.0, 0.5, 2.0], METHOD)
    assert np.allclose(find_conserved(states[-1].numpy()), find_conserved(start), atol=1e-7)
    assert drift(0.02) > 1e-5
    assert drift(0.02) / drift(0.01) == pytest.approx(2, rel=0.1)
    gram = start  # and the flow is the limit of descent
    for _ in range(4000):
        gram = grams.descend(gram, data, 0.0005)
    assert np.allclose(states[-1].numpy(), gram, atol=2e-3)


def test_the_roots_are_those_of_scipy_and_swap_under_transposition():
    a, g = RNG(0).standard_normal((2, 5, 5))
    outer, inner = find_roots(a, 0.7)
    assert np.allclose(outer, linalg.sqrtm(a @ a.T + 0.49 * np.eye(5)), atol=1e-10)
    assert np.allclose(inner, linalg.sqrtm(a.T @ a + 0.49 * np.eye(5)), atol=1e-10)
    assert np.allclose(find_mixed_flow(a.T, g.T, 0.7), find_mixed_flow(a, g, 0.7).T, atol=1e-12)


def test_the_formula_is_lazy_far_below_the_threshold_and_balanced_far_above():
    a, data = RNG(0).standard_normal((2, 5, 5))
    assert np.allclose(find_mixed_flow(a, data, 1e6), -2e6 * (a - data), rtol=1e-9, atol=1e-3)
    values = np.array([3.0, 2.0, 1.0])  # A and Y of the same singular vectors: each value by itself
    flow = find_mixed_flow(np.diag(values), np.diag(2 * values), 1e-9)
    assert np.allclose(flow, np.diag(2 * values * values))  # the logistic equation da/dt = 2 a (y - a)


def test_wide_networks_have_the_formulas_rates():
    gram = grams.draw_gram(3, 10**8, 0.5, RNG(0))
    data = RNG(1).standard_normal((3, 3))
    for _ in range(40):
        gram = grams.descend(gram, data, 0.05)
    values, rates = grams.find_rates(gram)
    assert np.allclose(rates, np.sqrt(values**2 + 0.25), rtol=0.02)
    assert values[0] > 0.5  # else nothing but laziness was seen


@pytest.mark.parametrize(("start", "target", "invariant"), [(0.01, 1.0, 0.04), (-0.3, 1.0, 0.01), (2.0, -1.0, 4.0)])
def test_the_scalar_solution_is_that_of_its_equation(start: float, target: float, invariant: float):
    times = np.linspace(0, 3, 7)
    found = integrate.solve_ivp(
        lambda _, a: 2 * (target - a) * np.sqrt(a**2 + invariant),
        (0, 3), [start], t_eval=times, method="DOP853", rtol=1e-11, atol=1e-12,
    )  # fmt: skip
    assert np.allclose(solve_scalar(start, target, invariant, times), found.y[0], atol=1e-9)


def test_a_scalar_network_obeys_it_at_every_width_and_descent_is_of_first_order():
    errors = []
    for step in (0.02, 0.01, 0.005):
        record = measure("scalar", step=step, width=3)
        assert record.closed_error is not None
        assert record.closed_error < 1e-5
        errors.append(record.step_error or 0.0)
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


def test_the_invariant_has_the_mean_and_the_spread_that_the_record_says():
    run = make_run("scalar", width=20)
    drawn = [draw_problem(run.model_copy(update={"seed": seed})) for seed in range(400)]
    found = [grams.find_invariant(problem.gram) / 0.01 for problem in drawn]
    said = measure("scalar", width=20)
    assert said.invariant_stderr == pytest.approx(np.sqrt(4 / 20 + 4 / 400))
    assert np.std(found) == pytest.approx(said.invariant_stderr, rel=0.2)
    assert np.mean(found) == pytest.approx(1, abs=4 * said.invariant_stderr / 20)


@pytest.mark.slow
def test_the_flows_deviation_falls_with_the_root_of_the_width():
    """Gradient descent's does too, down to what its step leaves."""
    narrow, wide = (
        [measure("matrix", seed, width=width, size=8, rank=2, time=5.0) for seed in range(3)] for width in (400, 40_000)
    )
    flows = [sum(record.deviation_flow or 0.0 for record in records) for records in (narrow, wide)]
    assert flows[0] / flows[1] == pytest.approx(10, rel=0.3)
    assert all(record.deviation < (record.deviation_flow or 0.0) + 2 * (record.step_error or 0.0) for record in wide)


def test_the_best_of_the_rank_and_the_lazy_optimum_are_the_least_of_their_kind():
    problem = draw_problem(make_run("recovery", size=20, rank=3, threshold=50.0))
    start, left, values, right = grams.read_product(problem.gram), *np.linalg.svd(problem.data)

    def find_error(product: np.ndarray) -> float:
        return float(((product - problem.signal) ** 2).mean())  # the signal's mean square is 1

    assert find_truncated(problem, 3) == pytest.approx(find_error((left[:, :3] * values[:3]) @ right[:3]))
    assert find_truncated(problem, 20) == pytest.approx(find_error(problem.data))
    along = [find_error((1 - c) * start + c * problem.data) for c in np.linspace(0, 1, 2001)]
    assert find_lazy(problem) == pytest.approx(min(along), rel=1e-6)


def test_signal_and_noise_are_those_of_the_seed_alone_and_scaled():
    one, other = (
        draw_problem(make_run("recovery", 3, size=12, width=w, threshold=s)) for w, s in ((9, 1.0), (50, 7.0))
    )
    assert np.array_equal(one.data, other.data)
    assert (one.signal**2).mean() == pytest.approx(1)
    assert np.linalg.matrix_rank(one.signal) == 5
    assert not np.array_equal(one.data, draw_problem(make_run("recovery", 4, size=12)).data)
    assert other.eta == pytest.approx(0.1 / max(np.linalg.norm(one.signal, 2), 7.0))


def test_a_small_threshold_finds_the_rank_and_a_large_one_learns_the_noise_fast():
    small, large = (measure("recovery", size=30, rank=2, threshold=s, width=3000) for s in (0.01, 300.0))
    assert small.test_error == pytest.approx(small.truncated, abs=0.02)
    assert large.test_error == pytest.approx(large.lazy, abs=0.02)
    assert small.iterations is not None
    assert large.iterations is not None
    assert small.iterations > 2 * large.iterations
    assert small.above_truncated == pytest.approx(small.test_error - small.truncated)
    assert small.nfe_flow is None


def test_waypoints_are_the_states_of_one_solve_on_the_way():
    class Clock(nn.Module):
        """dx/dt = 3 t^2 x, x = exp(t^3)."""

        def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return 3 * t**2 * x

    times = [0.0, 0.25, 1.0, 1.5]
    states = follow(Clock(), torch.ones(1, dtype=torch.float64), times, METHOD)
    assert [state.item() for state in states] == pytest.approx(np.exp(np.array(times) ** 3).tolist(), rel=1e-7)
    start = torch.ones(1, dtype=torch.float64)
    counts = [count_evaluations(Clock(), start, 0.0, end, METHOD) for end in (0.25, 1.5)]
    assert counts[0] < counts[1]


def test_a_step_that_is_too_long_fails_with_its_reason():
    with pytest.raises(MeasureError, match="gradient descent diverges"):
        measure("matrix", size=5, rank=1, step=1.0, time=200.0, noise=3.0, flow=False, threshold=30.0)


@pytest.mark.parametrize(
    ("case", "arm", "says"),
    [
        ("scalar", "rank=2", "rank = 2 is greater than size = 1"),
        ("recovery", "rtol=0.1", "arm 'rtol=0.1': rtol has no effect with flow = false"),
        ("matrix", "threshold=0.0", "threshold = '0.0': allowed: more than 0"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(case: str, arm: str, says: str):
    with pytest.raises(SpecError) as caught:
        resolve("linear", case, arm)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_price_of_a_network_grows_with_its_training():
    bench = Bench(Compute(), "cpu", 1.0)
    long, short = (
        price(load_project(ROOT), make_run("matrix", size=10, rank=2, time=time), "measure", bench, (0, 0))
        for time in (20.0, 10.0)
    )
    assert long.flops == pytest.approx(2 * short.flops, rel=0.5)
    assert long.seconds > 0
