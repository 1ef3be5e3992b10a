"""The worth of the noise level: against closed forms and numerical integrals."""

import math
import statistics
from typing import Any

import numpy as np
import pytest
from problems import resolve
from scipy import integrate
from scipy.stats import norm

from pipeline.schema.base import SpecError
from pipeline.schema.diffusion import Diffusion
from pipeline.studies.worth.measure import Optima, draw_levels, make_spectrum, measure_worth
from pipeline.studies.worth.study import Data, WorthRecord

SHORT = Diffusion(levels=40)
VAR_SIGMA = 0.07502503865883335
"""Variance of sigma over DDPM's 1000 levels, from its definition in the paper."""


def make_data(**fields: Any) -> Data:
    return Data.model_validate({"samples": 400, **fields})


def measure(seed: int = 0, batch: int = 250, diffusion: Diffusion | None = None, **fields: Any) -> WorthRecord:
    run = resolve("worth", "gaussian", seed=seed)
    update = {"data": make_data(**fields), "diffusion": diffusion or run.diffusion}
    return measure_worth(run.model_copy(update=update), batch)


def list_numbers(record: WorthRecord) -> dict[str, Any]:
    return record.model_dump(exclude={"settings", "status"}, exclude_none=True)


def test_white_noise_loses_the_variance_of_sigma_and_tells_nothing():
    beta = np.linspace(1e-4, 0.02, 1000)
    sigma = np.sqrt(1 - np.cumprod(1 - beta))
    assert sigma.var() == pytest.approx(VAR_SIGMA, rel=1e-12)
    record = measure()
    assert record.gap_exact == pytest.approx(VAR_SIGMA, rel=1e-12)
    assert record.gap == pytest.approx(VAR_SIGMA, abs=4 * record.gap_stderr)
    assert record.gap_stderr < 0.01 * record.gap
    assert record.told == pytest.approx(np.cumprod(1 - beta).mean(), rel=1e-12)
    assert record.blind == pytest.approx(1 - sigma.mean() ** 2, abs=4 * record.gap_stderr)
    assert record.level_sd == pytest.approx(math.sqrt((1 - 1e-6) / 12), rel=1e-9)
    assert record.share == pytest.approx(100 * record.gap / record.blind)


def test_of_white_noise_each_level_is_as_likely_and_the_blind_optimum_is_the_mean_sigma_times_x():
    optima = Optima(make_data(size=2), SHORT)
    x = np.random.default_rng(0).standard_normal((5, 4))
    p = optima.weigh_levels(x)
    assert np.allclose(p, 1 / 40, rtol=1e-10)
    assert np.allclose(optima.predict_blind(x, p), optima.sigma.mean() * x, rtol=1e-10)
    assert np.allclose(optima.find_gap(x, p), optima.sigma.var() * (x**2).mean(1), rtol=1e-9)


@pytest.mark.parametrize("level", [0, 7, 15])
def test_the_told_optimum_is_the_mean_of_the_noise_given_the_pixel(level: int):
    """By an integral over the noise; of the pixel of the digits that varies most."""
    data = make_data(spectrum="digits", blend=0.7)
    mean, variance = (float(values[-1]) for values in make_spectrum(data))
    optima = Optima(data, SHORT)
    sigma = float(optima.sigma[level])
    alpha, x = math.sqrt(1 - sigma**2), 0.8

    def joint(noise: float) -> float:
        return float(norm.pdf(noise) * norm.pdf((x - sigma * noise) / alpha, mean, math.sqrt(variance)))

    total, first = (
        integrate.quad(lambda noise, power=power: noise**power * joint(noise), -12, 12, epsabs=1e-13, limit=400)[0]
        for power in (0, 1)
    )
    told = optima.predict_told(np.full((1, 64), x), np.array([level]))[0, -1]
    assert told == pytest.approx(first / total, rel=1e-7)


def test_one_pixel_agrees_with_an_integral():
    """Natural spectrum of one pixel: variance 0.25, no mean."""
    optima = Optima(make_data(spectrum="natural", size=1), SHORT)
    sigma, scale = optima.sigma, np.sqrt(optima.variance[:, 0])
    assert scale[0] ** 2 == pytest.approx(0.25 * (1 - sigma[0] ** 2) + sigma[0] ** 2)
    x = np.linspace(-9, 9, 40_001)
    density = norm.pdf(x[:, None], 0, scale)
    told = sigma / scale**2 * x[:, None]
    blind = (density * told).sum(1) / density.sum(1)
    gap = np.trapezoid((density * (told - blind[:, None]) ** 2).mean(1), x)
    record = measure(spectrum="natural", size=1, samples=20_000, diffusion=SHORT)
    assert record.gap == pytest.approx(gap, abs=4 * record.gap_stderr)
    assert record.gap_stderr < 0.02 * gap
    assert record.gap_exact is None


def test_the_gap_is_the_variance_of_the_told_optimum_over_the_posterior():
    """Level by level, without the matrices; the digits have means too."""
    optima = Optima(make_data(spectrum="digits", blend=0.5, colours=2), SHORT)
    x = np.random.default_rng(1).standard_normal((3, 128))
    scale = np.sqrt(optima.variance)
    log_p = np.array([norm.logpdf(x, optima.centre[level], scale[level]).sum(1) for level in range(40)]).T
    p = np.exp(log_p - log_p.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    told = np.array([optima.predict_told(x, np.full(3, level)) for level in range(40)])
    blind = (p.T[:, :, None] * told).sum(0)
    assert np.allclose(optima.weigh_levels(x), p, rtol=1e-9, atol=1e-12)
    assert np.allclose(optima.predict_blind(x, p), blind, rtol=1e-9)
    expected = (p.T * ((told - blind) ** 2).mean(2)).sum(0)
    assert np.allclose(optima.find_gap(x, p), expected, rtol=1e-7)


def test_how_images_are_batched_does_not_matter():
    one, other = (measure(spectrum="digits", batch=batch) for batch in (7, 400))
    assert list_numbers(one) == pytest.approx(list_numbers(other), rel=1e-9)
    assert measure(seed=1).gap != measure().gap


def test_the_standard_error_is_the_spread_over_seeds():
    records = [measure(seed, samples=100, spectrum="natural", diffusion=Diffusion(levels=100)) for seed in range(30)]
    ratio = statistics.fmean(record.gap_stderr for record in records) / statistics.stdev(r.gap for r in records)
    assert 0.6 < ratio < 1.6  # 30 seeds know their spread to 13 %


def test_levels_are_drawn_one_from_each_stratum():
    assert sorted(draw_levels(0, 1000, 1000)) == list(range(1000))
    assert draw_levels(0, 10, 1000).tolist() != draw_levels(1, 10, 1000).tolist()
    assert [level // 100 for level in draw_levels(0, 10, 1000)] == list(range(10))


def test_the_natural_spectrum_falls_with_the_square_of_frequency_and_larger_images_tell_the_level():
    _, variance = make_spectrum(make_data(spectrum="natural", size=8))
    assert variance.mean() == pytest.approx(0.25)
    assert variance[1] / variance[2] == pytest.approx(4)  # one and two cycles an image
    assert variance[1] / variance[9] == pytest.approx(2)  # one cycle along, and one along and one across
    small, large, colours = (
        measure(spectrum="natural", **fields) for fields in ({"size": 4}, {"size": 16}, {"size": 16, "colours": 3})
    )
    assert small.share > 2 * large.share > 2 * colours.share
    assert small.level_sd > large.level_sd > colours.level_sd
    assert large.told == pytest.approx(colours.told)


def test_the_digits_have_their_own_variance_and_a_blend_of_nothing_is_white_noise():
    from sklearn.datasets import load_digits

    pixels = load_digits().data / 8 - 1
    mean, variance = make_spectrum(make_data(spectrum="digits"))
    assert variance.sum() == pytest.approx(pixels.var(0).sum())
    assert (mean**2).sum() == pytest.approx((pixels.mean(0) ** 2).sum())
    assert variance.min() >= 0
    blended, white = measure(spectrum="digits", blend=0.0), measure()
    assert list_numbers(blended) == pytest.approx(list_numbers(white), rel=1e-9)


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ("blend=0.5", "arm 'blend=0.5': blend has no effect with spectrum = white"),
        ("spectrum=digits,size=16", "spectrum = digits has size = 8, not 16"),
        ("size=0", "size = '0': allowed: at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(arm: str, says: str):
    with pytest.raises(SpecError) as caught:
        resolve("worth", "gaussian", arm)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
