"""The study `phases`: U-turns against the posterior, autoencoders against the Bayes denoiser, densities of times."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from problems import ROOT, resolve
from scipy.stats import norm

from pipeline.diffusion.ancestral import follow_reverse, weigh_posterior
from pipeline.diffusion.continuous import VpLinear, linear_path
from pipeline.diffusion.schedule import make_schedule
from pipeline.diffusion.targets import Mixture
from pipeline.diffusion.time_change import bend, space_evenly
from pipeline.metrics.bench import Bench
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute
from pipeline.schema.diffusion import Diffusion
from pipeline.schema.project import load_project
from pipeline.studies.phases.budget import measure_budget
from pipeline.studies.phases.cost import price
from pipeline.studies.phases.density import Density, dilate_time, tabulate_turns
from pipeline.studies.phases.digits import find_turns, load_classes, measure_digits
from pipeline.studies.phases.measure import measure_phases
from pipeline.studies.phases.network import Network, count_weight
from pipeline.studies.phases.overlaps import (
    Autoencoders,
    apply_bayes,
    draw_pairs,
    find_overlaps,
    list_times,
    measure_overlaps,
)
from pipeline.studies.phases.uturn import find_return

LINE = Mixture(1, 0.8, 1.0, 0.5)


def vary(case: str, **parts: dict[str, Any]) -> Any:
    run = resolve("phases", case)
    return run.model_copy(update={part: getattr(run, part).model_copy(update=values) for part, values in parts.items()})


# ---- Ancestral sampling --------------------------------------------------------------------------------------


def test_a_step_back_is_the_posterior_of_ddpm():
    """Ho et al. 2020, equation 7, of neighbouring levels."""
    schedule = make_schedule(Diffusion(levels=1000, beta_min=0.1, beta_max=20.0))
    t = torch.arange(1, 1000)
    of_x, of_x0, spread = weigh_posterior(schedule(t), schedule(t - 1))
    beta, bar, before = schedule.betas[t], schedule.alphas_bar[t], schedule.alphas_bar[t - 1]
    torch.testing.assert_close(of_x0, before.sqrt() * beta / (1 - bar), rtol=1e-9, atol=0)
    torch.testing.assert_close(of_x, (1 - beta).sqrt() * (1 - before) / (1 - bar), rtol=1e-9, atol=0)
    torch.testing.assert_close(spread**2, (1 - before) / (1 - bar) * beta, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", [linear_path, VpLinear(0.1, 20.0)], ids=["linear", "vp"])
def test_a_step_back_undoes_a_step_of_noise(schedule: Any):
    """Of N(1, 1/4) data: from the law at t, with x_0 from its posterior, comes the law at s."""
    noisy, clean = (schedule(torch.tensor(t, dtype=torch.float64)) for t in (0.7, 0.4))
    of_x, of_x0, spread = (float(value) for value in weigh_posterior(noisy, clean))
    alpha, sigma = float(noisy.alpha), float(noisy.sigma)
    variance = alpha**2 / 4 + sigma**2
    gain, left = alpha / 4 / variance, sigma**2 / 4 / variance  # E[x_0 | x] = 1 + gain (x - alpha), and its variance
    mean = of_x * alpha + of_x0
    assert mean == pytest.approx(float(clean.alpha))
    total = (of_x + of_x0 * gain) ** 2 * variance + of_x0**2 * left + spread**2
    assert total == pytest.approx(float(clean.alpha) ** 2 / 4 + float(clean.sigma) ** 2)


def test_ancestral_sampling_draws_the_data():
    generator, n = np.random.default_rng(0), 20_000
    ends = follow_reverse(
        linear_path, LINE.predict_x0, generator.standard_normal((n, 1)), space_evenly(200),
        lambda: generator.standard_normal((n, 1)),
    )  # fmt: skip
    levels = np.linspace(0.05, 0.95, 19)
    found = np.quantile(ends, levels)
    assert np.abs(0.8 * norm.cdf(found, 1, 0.5) + 0.2 * norm.cdf(found, -1, 0.5) - levels).max() < 0.015


# ---- U-turns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("weight", [0.5, 0.8])
def test_the_law_of_u_turns_is_in_detailed_balance(depth: float, weight: float):
    mixture = Mixture(400, weight, 1.0, 0.5)
    stay, cross = (find_return(mixture, depth / 20, start) for start in (1, -1))
    assert weight * (1 - stay) == pytest.approx((1 - weight) * cross, rel=1e-9)
    assert weight * stay + (1 - weight) * cross == pytest.approx(weight, rel=1e-9)


def test_the_law_of_u_turns_is_the_posterior_of_the_full_system():
    """Monte Carlo: data of each mode, noised, and the exact posterior weight of the mode at mu; d = 30."""
    generator, mixture, u, n = np.random.default_rng(0), Mixture(30, 0.8, 1.0, 0.5), 0.2, 20_000
    for start in (1, -1):
        x0 = start + 0.5 * generator.standard_normal((n, 30))
        x = u * x0 + (1 - u) * generator.standard_normal(x0.shape)
        scale = math.hypot(0.5 * u, 1 - u)
        odds = math.log(4) + (norm.logpdf(x, u, scale) - norm.logpdf(x, -u, scale)).sum(1)
        share = 1 / (1 + np.exp(-odds))
        assert find_return(mixture, u, start) == pytest.approx(share.mean(), abs=4 * share.std() / math.sqrt(n))


def test_a_u_turn_from_noise_forgets_and_from_data_remembers():
    mixture = Mixture(10_000, 0.8, 1.0, 0.5)
    assert find_return(mixture, 1e-6, -1) == pytest.approx(0.8, abs=1e-3)
    assert find_return(mixture, 0.2, -1) < 1e-9
    assert [find_return(mixture, u, 1) for u in (0.02, 0.05)] == pytest.approx([0.968, 1.0], abs=0.02)


def test_the_returns_of_400_dimensions_are_those_that_were_measured_before():
    """By a reverse SDE of 2000 steps: from the heavy mode, and from the other one."""
    mixture = Mixture(400, 0.8, 1.0, 1.0)
    for u, stay, cross in ((0.02, 0.821, 0.716), (0.05, 0.905, 0.380), (0.1, 0.990, 0.039)):
        assert find_return(mixture, u, 1) == pytest.approx(stay, abs=2e-3)
        assert find_return(mixture, u, -1) == pytest.approx(cross, abs=8e-3)


def test_simulated_u_turns_follow_the_law():
    record = measure_phases(vary("uturn", turn={"samples": 4000}))
    assert record.stay == pytest.approx(record.stay_exact, abs=4 * record.stay_stderr)
    assert record.cross == pytest.approx(record.cross_exact, abs=4 * record.cross_stderr)
    assert record.balance == pytest.approx(0, abs=4 * record.balance_stderr)


# ---- Autoencoders ----------------------------------------------------------------------------------------------


def test_the_bayes_denoiser_is_an_autoencoder():
    mixture = Mixture(64, 0.8, 1.0, 1.0)
    s, u = list_times(8, 2.0, 64)
    assert s.tolist() == [0.125, 0.375, 0.625, 0.875, 1.125, 1.375, 1.625, 1.875]
    torch.testing.assert_close(u[:4], s[:4] * 2 / 8)
    exact = find_overlaps(mixture, u)
    known = {1: [0.113, 0.989, 0.90, 0.693], 2: [0.212, 0.967, 1.70, 0.693], 5: [1.058, 0.438, 8.47, 0.693]}
    for index, values in known.items():
        assert exact[index].tolist() == pytest.approx(values, abs=6e-3)
    network = Autoencoders(8, 64, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        network.c.copy_(exact[:, 0])
        network.a.copy_(exact[:, 1, None].expand(8, 64))
        network.w.copy_(exact[:, 2, None].expand(8, 64))
        network.bias.copy_(exact[:, 3])
    x = draw_pairs(mixture, u, 5, torch.Generator().manual_seed(1))[1].double()
    torch.testing.assert_close(network(x), apply_bayes(mixture, u, x), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(network.list_overlaps(), exact)


def test_the_signs_of_an_autoencoder_are_one():
    network = Autoencoders(2, 16, torch.Generator().manual_seed(0))
    before = network.list_overlaps()
    with torch.no_grad():
        for value in (network.a, network.w, network.bias):
            value.mul_(-1)
    torch.testing.assert_close(network.list_overlaps(), before)


def test_a_short_training_comes_near_the_bayes_denoiser():
    short = {"steps": 20, "batch_size": 16}
    start, end = (
        measure_overlaps(vary("overlaps", training=short | {"steps": steps}, target={"dimension": 25}))
        for steps in (20, 200)
    )
    assert end.excess < start.excess / 2  # type: ignore[operator]


# ---- Densities of times ----------------------------------------------------------------------------------------

WIDE = Mixture(10_000, 0.8, 1.0, 0.5)


def make_density(kind: str) -> Density:
    return Density(kind, dilate_time(3.0, 10_000), lambda: tabulate_turns(lambda u: find_return(WIDE, u, 1)))


@pytest.mark.parametrize("kind", ["uniform", "dilated", "windowed"])
def test_a_density_has_all_of_its_draws_within_0_and_1(kind: str):
    v = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    u = make_density(kind).draw(v)
    assert u.min() >= 0 and u.max() <= 1
    first = ((u > 0) & (u < 0.03)).double().mean().item()
    assert first == pytest.approx({"uniform": 0.03, "dilated": 0.5, "windowed": 0.51}[kind], abs=0.02)


def test_the_window_is_where_u_turns_change_the_mode():
    """Its draws beside the uniform ones: their median is the depth at which half of the changes are lost."""
    u = make_density("windowed").draw(torch.tensor([0.5, 0.75, 1.0], dtype=torch.float64))
    flips = [1 - find_return(WIDE, value, 1) for value in u.tolist()]
    assert flips[1] == pytest.approx(flips[0] / 2, rel=0.01)
    assert 0.5 < u[1].item() * 100 < 2


@pytest.mark.parametrize(("clock", "resolves"), [("scaled", True), ("plain", False)])
def test_the_scaled_clock_alone_resolves_the_first_phase(clock: str, resolves: bool):
    run = vary("budget", denoiser={"clock": clock}, target={"dimension": 10_000})
    network = Network(run.denoiser, 10_000, 0.5)
    told = network.read_clock(torch.tensor([0.005, 0.02]))
    assert (abs(told[1, 0] - told[0, 0]).item() > 0.3) == resolves


def test_all_densities_train_as_long_and_end_near_the_target():
    records = {
        kind: measure_budget(
            vary("budget", denoiser={"density": kind, "drawn": 200, "grid": 40}, target={"dimension": 64})
        )
        for kind in ("uniform", "dilated", "windowed")
    }
    for record in records.values():
        assert 0.6 < record.weight < 1  # type: ignore[operator]
        assert record.weight_error == pytest.approx(abs(record.weight - 0.8))  # type: ignore[operator]
    assert len({record.weight for record in records.values()}) > 1


def test_what_makes_no_sense_is_refused_in_one_line():
    for arm, says in (
        ("depth=17.0", "depth + k = 21: likewise below 20"),
        ("k=25.0", "k = 25: it must be below sqrt(d)"),
    ):
        with pytest.raises(SpecError) as caught:
            resolve("phases", "uturn", arm)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_grid_of_a_u_turn_begins_where_it_turns():
    grid = 0.9 * bend(0.8).make_grid(10)
    assert (grid[0].item(), grid[-1].item()) == (0.9, 0)


@pytest.mark.parametrize("kind", ["uniform", "dilated", "windowed"])
def test_a_density_integrates_to_1_and_its_weights_undo_it(kind: str):
    """E_q[f / q] is the uniform mean of f: of draws in equal steps of v, q is the inverse of du / dv."""
    v = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    u = make_density(kind).draw(v).sort().values
    weights = u.diff() * len(v)  # 1 / q
    middles = (u[1:] + u[:-1]) / 2
    assert weights.mean().item() == pytest.approx(1, abs=1e-3)
    assert (weights * middles**2).mean().item() == pytest.approx(1 / 3, abs=1e-3)


@pytest.mark.parametrize("count", [0, 150, 200])
def test_a_share_has_its_binomial_error(count: int):
    found = count_weight(torch.arange(200) < count, 0.8)
    assert found.weight == count / 200
    assert found.weight_error == pytest.approx(abs(count / 200 - 0.8))
    p = (count + 2) / 204
    assert found.weight_stderr == pytest.approx(math.sqrt(p * (1 - p) / 204))


# ---- Digits ----------------------------------------------------------------------------------------------------


def test_the_digits_are_scaled_and_drawn_by_their_weights():
    classes = load_classes(0.8)
    assert classes.pixels.shape == (360, 64)
    x = classes.draw(20_000, torch.Generator().manual_seed(0)).double().numpy()
    assert x.mean() == pytest.approx(0, abs=0.01)
    assert x.std() == pytest.approx(1, abs=0.01)
    assert classes.recognise(x).mean() == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 20_000))


def test_the_nearest_neighbour_knows_zeros_from_ones():
    """Left out one by one."""
    classes = load_classes(0.8)
    distance = ((classes.pixels[:, None] - classes.pixels) ** 2).sum(2)
    np.fill_diagonal(distance, np.inf)
    assert (classes.heavy[distance.argmin(1)] == classes.heavy).mean() > 0.99


def test_the_posterior_of_the_images_is_bayes_rule_and_its_table_goes_from_0_to_1():
    classes, u = load_classes(0.8), 0.3
    x = np.random.default_rng(0).standard_normal((3, 64)) * 0.7
    p = classes.shares * norm.pdf(x[:, None], u * classes.pixels, 1 - u).prod(2)
    assert np.allclose(classes.weigh_heavy(u, x), p[:, classes.heavy].sum(1) / p.sum(1))
    assert np.allclose(classes.weigh_heavy(0.0, x), 0.8)
    times, share = find_turns(classes)
    assert (share[0], share[-1]) == (0, 1)
    assert (np.diff(share) >= 0).all()
    assert 0.1 < np.interp(0.5, share, times) < 0.35


@pytest.mark.parametrize("density", ["uniform", "windowed"])
def test_a_short_training_on_digits_counts_zeros(density: str):
    few = {"width": 16, "drawn": 50, "grid": 10, "density": density}
    record = measure_digits(vary("digits", denoiser=few, training={"steps": 10}))
    assert record.weight_error == pytest.approx(abs(record.weight - 0.8))  # type: ignore[operator]
    assert record.weight_stderr > 0  # type: ignore[operator]


def test_the_price_of_a_run_grows_with_its_training():
    bench, project = Bench(Compute(), "cpu", 1.0), load_project(ROOT)
    short = {"width": 8, "drawn": 20, "grid": 4}
    costs = [
        price(project, vary("digits", denoiser=short, training={"steps": steps}), "measure", bench, (0, 0))
        for steps in (100, 1000)
    ]
    assert costs[0].flops < costs[1].flops < 10 * costs[0].flops
    turn = price(project, vary("uturn", turn={"samples": 100}), "measure", bench, (0, 0))
    assert turn.seconds > 0
