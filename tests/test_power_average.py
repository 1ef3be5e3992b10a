"""Power-function averages and their reconstruction, against the weights of all steps."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from pipeline.diffusion.power_average import (
    LONGEST,
    PowerAverage,
    Profile,
    combine_averages,
    find_exponent,
    find_length,
    fit_profile,
    multiply_profiles,
    predict_error,
    weigh_steps,
)


def make_stored(steps: int, snapshots: int) -> list[Profile]:
    times = [steps * (index + 1) // snapshots for index in range(snapshots)]
    return [Profile(step, find_exponent(length)) for step in times for length in (0.05, 0.10)]


@pytest.mark.parametrize(
    ("length", "exponent"),
    [(0.01, 96.995), (0.05, 16.972), (0.10, 6.9372), (0.15, 3.5579), (0.20, 1.8262), (0.25, 0.7198)],
)
def test_lengths_and_exponents_are_one_to_one(length: float, exponent: float):
    assert find_exponent(length) == pytest.approx(exponent, rel=1e-4)
    assert find_length(find_exponent(length)) == pytest.approx(length, rel=1e-10)


def test_a_length_is_the_standard_deviation_of_the_profile():
    g = find_exponent(0.13)
    mean, square = (integrate.quad(lambda t, k=k: (g + 1) * t ** (g + k), 0, 1)[0] for k in (1, 2))
    assert math.sqrt(square - mean**2) == pytest.approx(0.13, rel=1e-9)


@pytest.mark.parametrize("length", [0.0, -0.1, LONGEST, 0.3])
def test_a_length_beyond_the_plain_mean_is_refused(length: float):
    with pytest.raises(ValueError, match=r"allowed are lengths between 0 and 0\.2887"):
        find_exponent(length)


@pytest.mark.parametrize("length", [0.05, 0.2])
def test_the_tracked_average_is_the_weighted_sum_of_all_states_and_forgets_the_first(length: float):
    states = np.random.default_rng(0).standard_normal((300, 7))
    value = torch.full((7,), 1e6, dtype=torch.float64)
    average = PowerAverage({"w": value}, length)
    for state in states:
        value.copy_(torch.from_numpy(state))
        average.update()
    weights = weigh_steps(300, average.exponent)
    assert weights.sum() == pytest.approx(1, abs=1e-13)
    assert np.allclose(average.averages["w"].numpy(), weights @ states, rtol=0, atol=1e-13)


def test_inner_products_are_the_integrals_of_profiles():
    a, b = Profile(40, 6.9), Profile(100, 1.8)

    def profile(one: Profile, t: float) -> float:
        return (one.exponent + 1) * t**one.exponent / one.step ** (one.exponent + 1) if t <= one.step else 0.0

    exact = integrate.quad(lambda t: profile(a, t) * profile(b, t), 0, 40)[0]
    assert multiply_profiles([a], [b]).item() == pytest.approx(exact, rel=1e-9)
    assert multiply_profiles([b], [a]).item() == pytest.approx(exact, rel=1e-9)


def test_a_stored_profile_is_itself():
    stored = make_stored(1000, 8)
    for index, wanted in enumerate(stored):
        factors = fit_profile(stored, wanted)
        assert np.allclose(factors, np.eye(len(stored))[index], atol=1e-6)
        assert predict_error(stored, wanted, factors) < 1e-6


def test_the_error_of_the_profile_is_that_of_independent_states():
    """sqrt(|profile difference|^2 / |profile|^2) against the same of the discrete weights."""
    stored = make_stored(4096, 16)
    for length in (0.02, 0.07, 0.15, 0.25):
        wanted = Profile(4096, find_exponent(length))
        factors = fit_profile(stored, wanted)
        exact, made = weigh_steps(4096, wanted.exponent), np.zeros(4096)
        for factor, one in zip(factors, stored, strict=True):
            made[: one.step] += factor * weigh_steps(one.step, one.exponent)
        assert made.sum() == pytest.approx(1, abs=1e-9)
        error = np.linalg.norm(made - exact) / np.linalg.norm(exact)
        assert predict_error(stored, wanted, factors) == pytest.approx(error, rel=2e-3)


def test_the_fit_is_the_best_one():
    """Up to the norming of the sum, which moves it by a few per cent."""
    stored, wanted = make_stored(1000, 8), Profile(1000, find_exponent(0.2))
    factors = fit_profile(stored, wanted)
    best = predict_error(stored, wanted, factors)
    random = np.random.default_rng(0)
    assert all(predict_error(stored, wanted, factors + 0.05 * random.standard_normal(16)) > best for _ in range(20))


def test_a_constant_is_reproduced_exactly_and_dtypes_are_kept():
    stored = make_stored(1000, 8)
    factors = fit_profile(stored, Profile(1000, find_exponent(0.23)))
    value = torch.tensor([1.5, -2.25, 3e-3])
    made = combine_averages([{"w": value}] * len(stored), factors)["w"]
    assert made.dtype == value.dtype
    assert torch.allclose(made, value, rtol=1e-6)
