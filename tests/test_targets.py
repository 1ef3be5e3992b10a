"""Paths, changes of time, probability flow and targets with exact posterior means: against calculus and Monte Carlo."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import norm

from pipeline.diffusion.continuous import VpLinear, amplify_noise, linear_path, trigonometric_path
from pipeline.diffusion.flow import follow_flow, weigh_flow
from pipeline.diffusion.targets import CurieWeiss, Mixture
from pipeline.diffusion.time_change import bend, power, space_evenly, straighten_noise

PATHS = {
    "vp": VpLinear(0.1, 20.0),
    "linear": linear_path,
    "trigonometric": trigonometric_path,
    "ve": amplify_noise(linear_path, 10.0),
    "dilated vp": bend(0.7).dilate(linear_path),
    "dilated ve": bend(0.3).dilate(amplify_noise(linear_path, 10.0)),
    "dilated trigonometric ve": straighten_noise(0.3).dilate(amplify_noise(trigonometric_path, 10.0)),
    "quadratic": power(2.0).dilate(linear_path),
}
CHANGES = {
    "none": bend(0.5),
    "late": bend(0.97),
    "early": bend(0.003),
    "quadratic": power(2.0),
    "straight": straighten_noise(0.3),
}
LINE = Mixture(dimension=1, weight=0.8, distance=1.0, spread=0.5)


def differentiate(function, at, step):
    """Central differences of fourth order."""
    near, far = ((function(at + s) - function(at - s)) / (2 * s) for s in (step, 2 * step))
    return (4 * near - far) / 3


def factors(path, t):
    found = path(torch.tensor(t, dtype=torch.float64))
    return found.alpha.item(), found.sigma.item()


def density(path, t, x, target=LINE):
    alpha, sigma = factors(path, t)
    scale = math.hypot(alpha * target.spread, sigma)
    modes = ((target.weight, target.distance), (1 - target.weight, -target.distance))
    return sum(weight * norm.pdf(x, alpha * centre, scale) for weight, centre in modes)


def velocity(path, t, x):
    of_x, of_x0 = (float(weight) for weight in weigh_flow(path(torch.tensor(t, dtype=torch.float64))))
    return of_x * x + of_x0 * LINE.predict_x0(*factors(path, t), x[:, None])[:, 0]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("t", [0.2, 0.44, 0.61, 0.9])  # off the kink at 1/2
def test_the_flow_of_each_path_obeys_the_continuity_equation(name: str, t: float):
    """d rho / dt + d (rho v) / dx = 0, in one dimension."""
    path = PATHS[name]
    scale = math.hypot(*factors(path, t))
    x = np.linspace(-3, 3, 41) * scale
    change = differentiate(lambda s: density(path, s, x), t, 1e-4)
    flux = differentiate(lambda y: density(path, t, y) * velocity(path, t, y), x, 1e-3 * scale)
    assert np.abs(change + flux).max() < 1e-7 * max(np.abs(change).max(), 1.0)


@pytest.mark.parametrize("name", PATHS)
def test_the_derivatives_of_a_path_are_those_of_finite_differences(name: str):
    path, t = PATHS[name], torch.tensor([0.13, 0.3, 0.44, 0.61, 0.8, 0.95], dtype=torch.float64)
    found = path(t)
    for slope, value in (("d_alpha", "alpha"), ("d_sigma", "sigma")):
        expected = differentiate(lambda s, value=value: getattr(path(s), value), t, 1e-4)
        torch.testing.assert_close(getattr(found, slope), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_time_goes_from_0_to_1_and_only_upwards(name: str):
    change, s = CHANGES[name], torch.linspace(0, 1, 2001, dtype=torch.float64)
    tau = change.tau(s)
    assert (tau[0].item(), tau[-1].item()) == (0, 1)
    assert (tau.diff() > 0).all()
    near = change.tau(torch.tensor([0.5 - 1e-9, 0.5, 0.5 + 1e-9], dtype=torch.float64))
    assert near.diff().max() < 1e-8  # continuous at the kink
    torch.testing.assert_close(change.make_grid(2000), tau.flip(0), rtol=1e-12, atol=1e-15)


@settings(deadline=None, derandomize=True)
@given(st.floats(1e-4, 1 - 1e-4), st.floats(1e-3, 1 - 1e-3), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_every_bend_and_every_straightened_noise_is_a_change_of_time(middle: float, width: float, times: list[float]):
    """Whatever their parameter; and a dilated path has its ends where the path has them."""
    s = torch.tensor(sorted({0.0, *times, 1.0}), dtype=torch.float64)
    for change, path in ((bend(middle), linear_path), (straighten_noise(width), trigonometric_path)):
        tau = change.tau(s)
        assert (tau[0].item(), tau[-1].item()) == (0, 1)
        assert (tau.diff() >= 0).all()
        assert (change.slope(s) >= 0).all()
        ends = change.dilate(path)(torch.tensor([0.0, 1.0], dtype=torch.float64))
        assert ends.alpha.tolist() == [1, 0]
        assert ends.sigma.tolist() == [0, 1]


@pytest.mark.parametrize("name", CHANGES)
def test_the_slope_of_a_change_of_time_is_that_of_the_side_of_the_data(name: str):
    change, step = CHANGES[name], 1e-6
    s = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)
    behind = (change.tau(s) - change.tau(s - step)) / step
    torch.testing.assert_close(change.slope(s), behind, rtol=1e-5, atol=1e-5)


def test_straightened_noise_is_straight_and_then_the_data_are():
    path, s = straighten_noise(0.3).dilate(trigonometric_path), torch.linspace(0, 1, 11, dtype=torch.float64)
    found = path(s)
    torch.testing.assert_close(found.sigma[:6], 0.6 * s[:6], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found.alpha[5:].diff(), found.alpha[5:].diff().mean().expand(5), rtol=1e-12, atol=0)


def test_uniform_steps_on_a_dilated_schedule_are_those_of_the_grid_on_the_schedule():
    """Where tau is linear between two points of the grid: dx = v dtau is the same step."""
    change, x = bend(0.1), np.array([[-0.3], [0.02], [1.1]])
    ours = follow_flow(change.dilate(linear_path), LINE.predict_x0, x, 20)
    for start, end in itertools.pairwise(change.make_grid(20).tolist()):
        x = x + (end - start) * velocity(linear_path, start, x[:, 0])[:, None]
    assert np.allclose(ours, x, rtol=1e-12)


@pytest.mark.parametrize("name", ["linear", "dilated vp", "ve", "quadratic"])
def test_the_flow_carries_quantiles_to_quantiles_on_every_path(name: str):
    """In one dimension the flow is the monotone map; Euler's error falls with the steps."""
    levels, errors = np.array([0.1, 0.25, 0.6, 0.9]), []
    _, sigma = factors(PATHS[name], 1.0)
    for steps in (500, 1000, 2000):
        ends = follow_flow(PATHS[name], LINE.predict_x0, sigma * norm.ppf(levels)[:, None], steps)[:, 0]
        below = 0.8 * norm.cdf(ends, 1, 0.5) + 0.2 * norm.cdf(ends, -1, 0.5)
        errors.append(np.abs(below - levels).max())
    assert errors[-1] < 2e-3
    assert 1.7 < errors[0] / errors[1] < 2.3 and 1.7 < errors[1] / errors[2] < 2.3


def test_the_posterior_mean_of_the_mixture_is_that_of_an_integral():
    for alpha, sigma, x in ((0.7, 0.3, 0.2), (0.1, 0.9, -1.3), (0.5, 5.0, 2.0)):

        def joint(x0: float, power: int, alpha=alpha, sigma=sigma, x=x) -> float:
            prior = 0.8 * norm.pdf(x0, 1, 0.5) + 0.2 * norm.pdf(x0, -1, 0.5)
            return float(x0**power * prior * norm.pdf(x, alpha * x0, sigma))

        total, first = (integrate.quad(joint, -5, 5, args=(power,), points=[-1, 1])[0] for power in (0, 1))
        assert LINE.predict_x0(alpha, sigma, np.array([[x]]))[0, 0] == pytest.approx(first / total, rel=1e-8)


def regress(x0, x, predicted, pairs: int):
    """A posterior mean is orthogonal to every function of x: the mean of (x_0 - E) g(x) is 0 within its error."""
    rest = x0 - predicted
    for g in (np.ones_like(x), x, np.tanh(x), np.tanh(3 * x.mean(1, keepdims=True)) * np.ones_like(x)):
        products = (rest * g).mean(1)
        assert abs(products.mean()) < 4 * products.std() / math.sqrt(pairs)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.1, 0.9), (0.5, 0.5), (0.9, 3.0)])
def test_the_posterior_mean_of_the_mixture_agrees_with_monte_carlo(alpha: float, sigma: float):
    generator, target, n = np.random.default_rng(0), Mixture(8, 0.8, 0.6, 0.5), 40_000
    side = np.where(generator.random((n, 1)) < 0.8, 1.0, -1.0)
    x0 = 0.6 * side + 0.5 * generator.standard_normal((n, 8))
    x = alpha * x0 + sigma * generator.standard_normal(x0.shape)
    regress(x0, x, target.predict_x0(alpha, sigma, x), n)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.1, 0.9), (0.5, 0.7), (0.9, 3.0)])
def test_the_posterior_mean_of_spins_agrees_with_monte_carlo(alpha: float, sigma: float):
    """Of the limit: a side, then independent spins."""
    generator, target, n = np.random.default_rng(0), CurieWeiss(8, 1.5, 0.693), 40_000
    side = np.where(generator.random((n, 1)) < target.limit_weight, 1.0, -1.0)
    x0 = np.where(generator.random((n, 8)) < (1 + side * target.magnetisation) / 2, 1.0, -1.0)
    x = alpha * x0 + sigma * generator.standard_normal(x0.shape)
    regress(x0, x, target.predict_x0(alpha, sigma, x), n)


def test_the_posterior_mean_of_spins_is_bayes_rule_over_all_configurations():
    target, x = CurieWeiss(3, 2.0, 0.4), np.array([[0.4, -0.7, 1.2]])
    m, alpha, sigma = target.magnetisation, 0.6, 0.8
    total, first = 0.0, np.zeros(3)
    for side in (1, -1):
        for spins in itertools.product((1.0, -1.0), repeat=3):
            s = np.array(spins)
            prior = (target.limit_weight if side > 0 else 1 - target.limit_weight) * np.prod((1 + side * m * s) / 2)
            p = prior * np.exp(-((x[0] - alpha * s) ** 2).sum() / (2 * sigma**2))
            total, first = total + p, first + p * s
    assert np.allclose(target.predict_x0(alpha, sigma, x)[0], first / total, rtol=1e-12)


def test_the_law_of_curie_weiss_is_that_of_all_configurations_and_tends_to_its_limit():
    target = CurieWeiss(10, 2.0, 0.693)
    sums = np.array([sum(spins) for spins in itertools.product((1, -1), repeat=10)], dtype=float)
    p = np.exp(2.0 * sums**2 / 20 + 0.693 * sums / 10)
    p /= p.sum()
    total, law = target.find_law()
    assert np.allclose(law, [p[sums == value].sum() for value in total], rtol=1e-12)
    assert target.find_weight() == pytest.approx(p[sums > 0].sum() + p[sums == 0].sum() / 2)
    assert target.magnetisation == pytest.approx(math.tanh(2 * target.magnetisation), abs=1e-15)
    assert target.magnetisation == pytest.approx(0.957504, abs=1e-6)
    weights = [CurieWeiss(d, 2.0, 0.693).find_weight() for d in (20, 100, 1000, 10_000)]
    assert weights == pytest.approx([0.78672, 0.78985, 0.79035, 0.79040], abs=7e-5)
    gaps = [abs(weight - target.limit_weight) for weight in weights]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-4


def test_an_even_grid_ends_at_0_and_1():
    assert space_evenly(4).tolist() == [1, 0.75, 0.5, 0.25, 0]
