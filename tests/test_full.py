"""Diffusion without time truncation: against closed forms, quadrature, finite differences and a second formula."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from problems import resolve
from scipy import integrate
from scipy.stats import norm
from test_diffusion import choose

from pipeline.diffusion.bound import measure_prior, weigh_bound
from pipeline.diffusion.circle import cosine_path, exploding_path, log_snr_path, noise_path, preserve
from pipeline.diffusion.continuous import VpLinear, linear_path, trigonometric_path
from pipeline.diffusion.parametrisation import PARAMETRISATIONS, convert_f
from pipeline.diffusion.path import add_noise
from pipeline.diffusion.reverse import SOLVERS, solve_reverse
from pipeline.diffusion.sample import predict_next
from pipeline.diffusion.schedule import DiscreteSchedule
from pipeline.diffusion.times import draw_floors, draw_uniform, spread_lognormal
from pipeline.layers.flops import count_flops
from pipeline.metrics.bench import Bench
from pipeline.schema.base import SpecError
from pipeline.studies.full.bounds import integrate_raw, list_gradients
from pipeline.studies.full.cost import price
from pipeline.studies.full.learned import Batches, Learner, Network, draw_batches, find_gaps, list_features
from pipeline.studies.full.line import Line
from pipeline.studies.full.measure import measure_full
from pipeline.studies.full.path import space_times
from pipeline.studies.full.ramp import find_variance
from pipeline.studies.full.solvers import follow_gaussian
from pipeline.studies.full.study import Gaussian, Target

INSIDE = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)
SCHEDULES = {
    "cosine": cosine_path,
    "noise": noise_path,
    "straight": preserve(linear_path),
    "vp_linear": VpLinear(0.1, 20.0),
    "log_snr": log_snr_path,
    "ve": preserve(exploding_path),
}
SAFE = ("full", "edm_full")
LINE = Line(Target())


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run_of(case: str, arm: str = "baseline", seed: int = 0, **parts: dict[str, Any]) -> Any:
    run = resolve("full", case, arm, seed)
    return run.model_copy(update={part: getattr(run, part).model_copy(update=new) for part, new in parts.items()})


# ---- Paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_paths_preserve_the_variance_and_know_their_derivatives(name: str):
    schedule, step = SCHEDULES[name], 1e-6
    path, after, before = schedule(INSIDE), schedule(INSIDE + step), schedule(INSIDE - step)
    torch.testing.assert_close(path.alpha**2 + path.sigma**2, torch.ones_like(INSIDE), rtol=0, atol=1e-14)
    for value in ("alpha", "sigma"):
        expected = (getattr(after, value) - getattr(before, value)) / (2 * step)
        torch.testing.assert_close(getattr(path, f"d_{value}"), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["cosine", "noise", "straight"])
def test_paths_without_signal_end_there_exactly(name: str):
    path = SCHEDULES[name](ENDS)
    assert path.alpha.tolist() == [1, 0]
    assert path.sigma.tolist() == [0, 1]


# ---- Parametrisations --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_of_each_output_x0_noise_v_and_f_are_those_of_the_point(name: str):
    """Round trip: x0 and noise to x_t, to the output, to f, and back to x0, noise, v, score."""
    path = cosine_path(INSIDE)
    x0, noise = draw(2, 49)
    x, parts = add_noise(path, x0, noise), PARAMETRISATIONS[name](path, 0.8)
    output = (x0 - parts.of_x * x) / parts.of_output
    f = parts.f_of_x * x + parts.f_of_output * output
    found = convert_f(path, x, f)
    v = path.alpha * noise - path.sigma * x0
    expected = {"x0": x0, "noise": noise, "v": v, "score": -noise / path.sigma}
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(f, v / path.sigma, rtol=1e-9, atol=1e-9)


def test_outputs_are_what_their_names_say():
    path = cosine_path(INSIDE)
    x0, noise = draw(2, 49)
    x = add_noise(path, x0, noise)
    v = path.alpha * noise - path.sigma * x0
    for name, value in {"noise": noise, "x0": x0, "v": v, "flow": noise - x0, "full": v / path.sigma}.items():
        parts = PARAMETRISATIONS[name](path, 1.0)
        torch.testing.assert_close(parts.of_x * x + parts.of_output * value, x0, rtol=1e-9, atol=1e-9)


def test_edm_with_data_of_variance_one_predicts_v_with_the_other_sign():
    path = cosine_path(INSIDE)
    edm, v = (PARAMETRISATIONS[name](path, 1.0) for name in ("edm", "v"))
    torch.testing.assert_close(edm.of_x, v.of_x)
    torch.testing.assert_close(edm.of_output, -v.of_output)


@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_full_and_its_class_alone_are_finite_at_both_ends(name: str):
    """At t = 0 and t = 1 exactly; nothing is clamped."""
    parts = PARAMETRISATIONS[name](cosine_path(ENDS), 0.8)
    finite = all(torch.isfinite(values).all() for values in vars(parts).values())
    assert finite == (name in SAFE)


def test_the_flow_along_the_path_with_linear_alpha_is_f():
    """dx/dt = alpha' x0 + sigma' noise = -alpha' f: flow matching on another interpolation, as a review says."""
    path = trigonometric_path(INSIDE)
    x0, noise = draw(2, 49)
    velocity = path.d_alpha * x0 + path.d_sigma * noise
    torch.testing.assert_close(velocity, (path.alpha * noise - path.sigma * x0) / path.sigma, rtol=1e-9, atol=1e-9)


# ---- Solvers -----------------------------------------------------------------------------------------------


def error(solver: Any, steps: int, **fields: Any) -> float:
    data = Gaussian(**fields)
    return abs(follow_gaussian(cosine_path, space_times(steps, 0.0), solver, data).std - data.spread)


@pytest.mark.parametrize(
    ("solver", "order"), [("exponential", 1), ("exponential2", 2), ("ancestral", 1), ("ddim", 1), ("ab2", 2)]
)
def test_orders_of_the_solvers(solver: Any, order: int):
    found = math.log2(error(solver, 320) / error(solver, 640))
    assert found == pytest.approx(order, abs=0.1 * order)


@pytest.mark.parametrize(
    ("solver", "errors"),
    [
        ("exponential", [6.0e-2, 2.9e-2, 1.4e-2, 7.1e-3, 3.5e-3, 1.8e-3]),
        ("exponential2", [2.8e-2, 8.2e-3, 2.3e-3, 5.9e-4, 1.5e-4, 3.8e-5]),
    ],
)
def test_errors_are_those_of_a_recursion_of_mean_and_variance(solver: Any, errors: list[float]):
    """Computed apart from this code, to two digits: 10, 20, ... 320 steps, data of standard deviation 0.3."""
    found = [error(solver, 10 * 2**k) for k in range(6)]
    assert [float(f"{value:.1e}") for value in found] == errors


@pytest.mark.parametrize(
    ("steps", "errors"), [(50, [0.054, 0.0053, 0.0136, 0.0073]), (200, [5.2e-3, 4e-4, 3.2e-3, 6e-4])]
)
def test_truncated_eulers_method_on_a_good_schedule_is_no_worse_in_the_spread(steps: int, errors: list[float]):
    """Data of standard deviation 0.05: Euler-Maruyama on DDPM's schedule and on cosine, the exponential solvers."""
    euler: Any = "euler_maruyama"
    cases = [
        ("vp_linear", euler, 1e-3),
        ("cosine", euler, 1e-3),
        ("cosine", "exponential", 0),
        ("cosine", "exponential2", 0),
    ]
    data = Gaussian(spread=0.05)
    for (name, solver, cut), expected in zip(cases, errors, strict=True):
        law = follow_gaussian(SCHEDULES[name], space_times(steps, cut), solver, data)
        assert law.std - data.spread == pytest.approx(expected, abs=5.1e-5 if expected < 0.05 else 5e-4)


def test_the_law_of_the_samples_is_that_of_a_monte_carlo_run():
    """The solver's own code on samples against the same code on coefficients."""
    data, times = Gaussian(mean=0.5, spread=0.3), space_times(8, 0.0)

    def predict(path: Any, x: torch.Tensor) -> torch.Tensor:
        variance = path.alpha**2 * 0.09 + path.sigma**2
        return (path.alpha * x - (path.alpha * 0.09 * x + path.sigma**2 * 0.5) / variance) / path.sigma**2

    for solver in ("exponential2", "ancestral", "ab2"):
        law = follow_gaussian(cosine_path, times, solver, data)
        x = solve_reverse(
            SOLVERS[solver], cosine_path, times, draw(100_000), predict, lambda k: draw(100_000, seed=k)
        ).numpy()
        assert x.mean() == pytest.approx(law.mean, abs=5 * law.std / 300)
        assert x.std() == pytest.approx(law.std, rel=0.015)


def test_the_first_exponential_step_is_ddpms_with_its_large_variance_and_the_ancestral_one_with_the_small():
    alphas_bar = torch.tensor([0.8, 0.3], dtype=torch.float64)
    schedule = DiscreteSchedule(torch.tensor([0.2, 0.625], dtype=torch.float64), alphas_bar)
    x, noise = draw(2, 5)
    path = schedule(1)
    f = (path.alpha * x - (x - path.sigma * noise) / path.alpha) / path.sigma**2
    for solver, variance in (("exponential", "large"), ("ancestral", "small")):
        mean, spread = predict_next(schedule, x, noise, 1, 0, choose(sampler="ancestral", variance=variance))
        times = torch.tensor([1.0, 0.0], dtype=torch.float64)

        def path_at(t: torch.Tensor) -> Any:
            return schedule((t > 0.5).long())

        ours = SOLVERS[solver]
        found = solve_reverse(ours, path_at, times, x, lambda *_: f, lambda _: torch.zeros_like(x))
        torch.testing.assert_close(found, mean, rtol=1e-12, atol=1e-12)
        found = solve_reverse(ours, path_at, times, x, lambda *_: f, lambda _: torch.ones_like(x))
        torch.testing.assert_close(found - mean, torch.full_like(x, spread), rtol=1e-12, atol=1e-12)


def test_the_first_step_from_pure_noise_forgets_where_it_was():
    """From t = 1 to 0 in one step the SDE solvers draw anew: x_0 does not depend on x_1."""
    for solver in ("exponential", "ancestral"):
        found = [
            solve_reverse(
                SOLVERS[solver], cosine_path, space_times(1, 0.0), x, lambda _, x: 0 * x - 0.5, lambda _: draw(9)
            )
            for x in (draw(9, seed=1), draw(9, seed=2))
        ]
        assert torch.equal(*found)


def test_ddim_is_eulers_method_on_the_straight_path():
    """Flow matching's sampler, x + (s - t)(noise - x0), seen on the circle."""
    x, x0, now, then = draw(5), draw(5, seed=1), 0.8, 0.5
    path = preserve(linear_path)(torch.tensor([now, then], dtype=torch.float64))
    sizes = [math.hypot(1 - t, t) for t in (now, then)]
    euler = x * sizes[0] + (then - now) * ((x * sizes[0] - (1 - now) * x0) / now - x0)
    f = (path.alpha[0] * x - x0) / path.sigma[0] ** 2
    times = torch.tensor([now, then], dtype=torch.float64)
    found = solve_reverse(SOLVERS["ddim"], preserve(linear_path), times, x, lambda *_: f, lambda _: x)
    torch.testing.assert_close(found * sizes[1], euler, rtol=1e-12, atol=1e-12)


# ---- The exact line, and the bound -------------------------------------------------------------------------


def posterior(alpha: float, sigma: float, x: float) -> tuple[float, float]:
    """Mean of x0 given x_t = x, and the density of x, by integrals over x0."""

    def joint(x0: float) -> float:
        prior = 0.7 * norm.pdf(x0, 0.9, 0.15) + 0.3 * norm.pdf(x0, -0.9, 0.15)
        return float(prior * norm.pdf(x, alpha * x0, sigma))

    total, first = (
        integrate.quad(lambda x0, p=p: x0**p * joint(x0), -2.5, 2.5, points=[-0.9, 0.9], limit=200)[0] for p in (0, 1)
    )
    return first / total, total


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_exact_f_is_that_of_the_posterior_mean(t: float):
    path = cosine_path(torch.tensor(t, dtype=torch.float64))
    alpha, sigma = float(path.alpha), float(path.sigma)
    for x in (-1.0, 0.1, 0.7):
        expected = (alpha * x - posterior(alpha, sigma, x)[0]) / sigma**2
        assert LINE.predict_f(np.asarray(alpha), np.asarray(sigma), np.asarray(x)) == pytest.approx(expected, rel=1e-6)


def test_errors_and_squares_are_means_over_draws():
    sigma = 0.4
    alpha, x0, noise = math.sqrt(1 - sigma**2), LINE.draw(400_000, torch.Generator().manual_seed(1)), draw(400_000)
    f = LINE.predict_f(np.asarray(alpha), np.asarray(sigma), (alpha * x0 + sigma * noise).numpy())
    missed = (alpha * noise - sigma * x0).numpy() - sigma * f
    assert (missed**2).mean() == pytest.approx(LINE.find_error(alpha, sigma), rel=0.01)
    assert (f**2).mean() == pytest.approx(LINE.find_square(alpha, sigma), rel=0.01)
    assert x0.var().item() == pytest.approx(LINE.variance, rel=0.01)


def test_quantiles_and_entropy():
    x = np.sort(LINE.draw(200_000, torch.Generator().manual_seed(1)).numpy())
    assert np.abs(x - LINE.find_quantiles(200_000)).mean() < 0.01
    one = Line(Target(distance=0.0, width=0.3))
    assert one.find_entropy() == pytest.approx(math.log(2 * math.pi * math.e * 0.09) / 2, abs=1e-10)


def test_an_output_of_zero_costs_what_a_standard_normal_does():
    x0, zero = draw(7), torch.zeros(7, dtype=torch.float64)
    value = measure_prior(x0) + weigh_bound(cosine_path(torch.rand(7, dtype=torch.float64)), zero, draw(7, seed=1))
    torch.testing.assert_close(value, torch.from_numpy(-norm.logpdf(x0.numpy())))


@pytest.mark.parametrize("arm", ["baseline", "schedule=cosine", "schedule=straight", "distance=0.0,width=0.3"])
def test_the_negative_elbo_of_the_optimum_is_the_entropy_on_every_schedule(arm: str):
    record = measure_full(run_of("mixture", arm, seed=5))
    assert record.nelbo == pytest.approx(record.entropy, abs=3 * record.nelbo_stderr)
    assert record.nelbo_stderr < 0.016


def test_the_bound_is_finite_at_both_ends():
    path = cosine_path(ENDS)
    assert torch.isfinite(weigh_bound(path, draw(2), draw(2, seed=1))).all()


def test_the_raw_form_is_the_bound_plus_its_bias():
    """It falls to the entropy as the cut does: information is an integral of errors (Guo et al. 2005)."""
    entropy = LINE.find_entropy()
    assert entropy is not None
    assert integrate_raw(LINE, 1e-3) == pytest.approx(entropy, abs=1e-4)
    assert integrate_raw(LINE, 0.1) - entropy == pytest.approx(math.log(1 + 0.01 / 0.99 / 0.0225) / 2, abs=1e-3)


@pytest.mark.parametrize("name", ["full", "v", "x0", "noise", "edm", "flow"])
def test_gradients_are_those_of_autograd(name: str):
    run = run_of("mixture", "baseline" if name == "full" else f"parametrisation={name}")
    record_at = 4  # sigma = 0.1
    path = noise_path(torch.full((200_000,), 0.1, dtype=torch.float64))
    x0, noise = LINE.draw(200_000, torch.Generator().manual_seed(3)), draw(200_000, seed=4)
    x, parts = add_noise(path, x0, noise), PARAMETRISATIONS[name](path, math.sqrt(LINE.variance))
    f = torch.from_numpy(LINE.predict_f(path.alpha.numpy(), path.sigma.numpy(), x.numpy()))
    output = ((f - parts.f_of_x * x) / parts.f_of_output).requires_grad_()
    v = path.alpha * noise - path.sigma * x0
    weigh_bound(path, parts.f_of_x * x + parts.f_of_output * output, v).sum().backward()
    assert output.grad is not None
    assert output.grad.square().mean().sqrt().item() == pytest.approx(list_gradients(run)[record_at], rel=0.01)


def test_of_atoms_f_has_no_bound():
    atoms = Line(Target(width=0.0))
    assert [atoms.find_square(math.sqrt(1 - s**2), s) ** 0.5 * s for s in (0.1, 0.01, 1e-3)] == pytest.approx(
        [1, 1, 1], abs=2e-3
    )
    assert LINE.find_square(1.0, 1e-3) ** 0.5 < 1 / 0.15


# ---- Times -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", ["independent", "stratified", "systematic"])
def test_draws_are_uniform_and_in_their_strata(draws: Any):
    u = draw_uniform(draws, 2000, 8, 8, torch.Generator().manual_seed(0))
    assert u.min() >= 0
    assert u.max() < 1
    assert np.histogram(u, 8, (0, 1))[0] == pytest.approx([2000] * 8, abs=0 if draws != "independent" else 200)
    if draws != "independent":
        assert torch.equal((u * 8).floor().sort(1).values, torch.arange(8).double().expand(2000, 8))


@pytest.mark.parametrize("arm", ["draws=independent", "baseline", "draws=systematic", "strata=4"])
def test_the_variance_of_a_batch_is_that_of_the_formula(arm: str):
    """Within 10 %."""
    run = run_of("ramp", arm, seed=7, ramp={"repeats": 20_000})
    assert measure_full(run).variance == pytest.approx(find_variance(run)[0], rel=0.05)


def test_one_stratum_is_independent_draws_and_many_leave_the_floor():
    one, many = (
        find_variance(run_of("ramp", arm, ramp={"batch": size})) for arm, size in (("strata=1", 64), ("baseline", 4096))
    )
    assert one == find_variance(run_of("ramp", "draws=independent", ramp={"batch": 64}))
    assert many[0] == pytest.approx(many[1], rel=1e-4)


def test_laws_of_the_time():
    generator = torch.Generator().manual_seed(0)
    floors = draw_floors(1e-3, 50_000, generator)[:, 0]
    assert floors.min() >= 1e-3
    assert floors.max() <= 1
    assert (floors < 1e-3**0.5).double().mean().item() == pytest.approx(0.5, abs=0.01)  # log-uniform
    t = spread_lognormal((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
    path = cosine_path(t)
    log_ratio = (path.sigma / path.alpha).log()
    assert log_ratio.mean().item() == pytest.approx(-1.2, abs=1e-3)
    assert log_ratio.std().item() == pytest.approx(1.2, abs=1e-2)


# ---- Trained networks --------------------------------------------------------------------------------------


def learner_of(arm: str) -> Learner:
    torch.manual_seed(0)
    run = run_of("learned", arm)
    return Learner(run, Line(run.target), Network(run.learning.hidden))


@pytest.mark.parametrize("arm", ["baseline", "parametrisation=v", "schedule=straight,parametrisation=flow,loss=simple"])
def test_the_loss_of_a_batch_is_the_bound_or_the_square_but_for_terms_without_the_output(arm: str):
    """Its differences between two outputs are those of the definition."""
    learner, schedule = learner_of(arm), SCHEDULES[resolve("full", "learned", arm).path.schedule]
    seeds = {purpose: torch.Generator().manual_seed(k) for k, purpose in enumerate(("data", "time", "noise"))}
    batches = draw_batches(learner, 3, seeds)
    seeds = {purpose: torch.Generator().manual_seed(k) for k, purpose in enumerate(("data", "time", "noise"))}
    t = draw_uniform("stratified", 3, 128, 128, seeds["time"])
    x0, noise = (
        LINE.draw(t.numel(), seeds["data"]).view_as(t),
        torch.randn(t.shape, dtype=torch.float64, generator=seeds["noise"]),
    )
    path = schedule(t)
    x, v = path.alpha * x0 + path.sigma * noise, path.alpha * noise - path.sigma * x0

    def define(output: torch.Tensor) -> torch.Tensor:
        if learner.run.model.loss == "simple":
            return (output - (noise - x0)) ** 2
        parts = learner.weigh(path)
        return weigh_bound(path, parts.f_of_x * x + parts.f_of_output * output, v)

    def short(batches: Batches, output: torch.Tensor) -> torch.Tensor:
        return output * (batches.square * output - 2 * batches.slope)

    outputs = draw(2, *t.shape)
    torch.testing.assert_close(
        short(batches, outputs[0]) - short(batches, outputs[1]),
        define(outputs[0]) - define(outputs[1]),
        rtol=1e-6,
        atol=1e-6,
    )
    torch.testing.assert_close(batches.features, list_features(path, x))


def test_the_gap_is_the_excess_of_the_bound():
    """By quadrature, against draws of the negative ELBO of the same untrained network."""
    learner = learner_of("baseline")
    size = 100_000
    t = draw_uniform("stratified", 1, size, size, torch.Generator().manual_seed(0))[0]
    path = noise_path(t)
    x0, noise = LINE.draw(size, torch.Generator().manual_seed(1)), draw(size, seed=2)
    with torch.no_grad():
        f = learner.predict_f(path, add_noise(path, x0, noise))
    values = measure_prior(x0) + weigh_bound(path, f, path.alpha * noise - path.sigma * x0)
    entropy = LINE.find_entropy()
    assert entropy is not None
    assert math.fsum(find_gaps(learner)) == pytest.approx(
        values.mean().item() - entropy, abs=4 * values.std().item() / 316
    )


def test_an_exact_output_has_no_gap(monkeypatch: pytest.MonkeyPatch):
    def predict(_: Learner, path: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(LINE.predict_f(path.alpha.numpy(), path.sigma.numpy(), x.numpy()))

    monkeypatch.setattr(Learner, "predict_f", predict)
    assert find_gaps(learner_of("baseline")) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "arm",
    ["baseline", "schedule=vp_linear,truncation=0.001,parametrisation=noise,law=soft",
     "schedule=log_snr,parametrisation=noise,draws=systematic", "parametrisation=edm,loss=simple,law=lognormal"],
)  # fmt: skip
def test_a_short_training_is_scored_and_repeats_itself(arm: str):
    run = run_of("learned", arm, learning={"updates": 20, "batch_size": 16, "hidden": 8}, sampler={"steps": 5})
    first, second = measure_full(run), measure_full(run)
    assert first == second
    assert first.gap is not None
    assert first.gap > 0


_TABLE = [
    (kind, loss, draws, law)
    for kind, loss, (draws, law) in itertools.product(
        PARAMETRISATIONS,
        ("bound", "simple"),
        [("stratified", "soft"), ("independent", "lognormal"), ("systematic", "uniform")],
    )
    if (kind, law) != ("noise", "lognormal")  # refused: not finite at t = 1, where that law goes
]


def name_arm(kind: str, loss: str, draws: str, law: str) -> str:
    """An arm of the table that params.yaml describes: parametrisation x weighting x time sampler."""
    fields = {"parametrisation": (kind, "full"), "loss": (loss, "bound"), "law": (law, "uniform")}
    fields["draws"] = (draws, "stratified")
    cut = ["truncation=0.001"] if law == "soft" or (kind == "noise" and law == "uniform") else []
    return ",".join([*cut, *(f"{name}={value}" for name, (value, base) in fields.items() if value != base)])


@pytest.mark.slow
def test_the_whole_table_of_trained_networks_is_measured():
    """What is off, tiny: each parametrisation with each loss, law and way to draw."""
    tiny = {"learning": {"updates": 10, "batch_size": 4, "hidden": 4}, "sampler": {"steps": 4}}
    for kind, loss, draws, law in _TABLE:
        record = measure_full(run_of("learned", name_arm(kind, loss, draws, law), **tiny))
        assert record.gap is not None
        assert record.w1_sde is not None
        assert record.nfe == 4


# ---- What is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "arm", "message"),
    [
        ("gaussian", "solver=euler_maruyama", "infinite at t = 1"),
        ("learned", "parametrisation=noise", "infinite at t = 1"),
        ("learned", "law=soft", "needs truncation above 0"),
        ("learned", "schedule=straight,law=lognormal", "needs schedule = cosine"),
        ("learned", "strata=7", "must divide the batch of 128"),
        ("mixture", "loss=simple", "loss has no effect"),
        ("mixture", "cut=0.1", "cut has no effect"),
        ("mixture", "schedule=cosine,form=raw", "needs schedule = noise"),
        ("mixture", "schedule=ve", "does not end in pure noise"),
        ("ramp", "law=soft,draws=independent", "law has no effect"),
        ("ramp", "draws=systematic,strata=4", "strata has no effect"),
    ],
)
def test_what_has_no_effect_or_is_not_finite_is_refused_in_a_line(case: str, arm: str, message: str):
    with pytest.raises(SpecError, match=message) as caught:
        resolve("full", case, arm)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_plan_knows_the_flops_of_a_longer_training(project: Any):
    """From two short ones; all networks of a size cost the same."""
    run = run_of("learned", "parametrisation=v", learning={"updates": 100}, sampler={"steps": 5})
    cost = price(project, run, "measure", Bench(project.panel.compute, "cpu", 0.1), (0, 0))
    assert cost.flops == pytest.approx(count_flops(lambda: measure_full(run)), rel=1e-3)
    assert cost.seconds > 0


@pytest.mark.parametrize(("case", "parts"), [("gaussian", {}), ("mixture", {"estimate": {"size": 1000}}), ("ramp", {})])
def test_the_plan_prices_the_other_cases(project: Any, case: str, parts: Any):
    run = run_of(case, **parts)
    assert price(project, run, "measure", Bench(project.panel.compute, "cpu", 0.1), (0, 0)).seconds > 0
