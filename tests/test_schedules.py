"""The study `schedules`: the reduced system against the full one, Euler's map against samples, the limits."""

import math
from typing import Any

import numpy as np
import pytest
from problems import ROOT, resolve
from scipy.stats import norm

from pipeline.diffusion.flow import follow_flow
from pipeline.diffusion.targets import Mixture
from pipeline.metrics.bench import Bench
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute
from pipeline.schema.project import load_project
from pipeline.schema.study import MeasureError
from pipeline.studies.schedules import measure as module
from pipeline.studies.schedules.cost import price
from pipeline.studies.schedules.euler import EulerMap, find_steps, make_map
from pipeline.studies.schedules.measure import measure_mixture, measure_schedule, measure_spins
from pipeline.studies.schedules.path import make_path
from pipeline.studies.schedules.study import Path, SchedulesRecord

SCHEDULES = ("vp", "vp_dilated", "ve", "ve_dilated")
SHAPES = ("linear", "trigonometric")


def make_mixture(dimension: int, weight: float = 0.8) -> Mixture:
    return Mixture(dimension, weight, 1.0, 0.5)


def map_steps(schedule: str, dimension: int, steps: int, shape: str = "linear", weight: float = 0.8) -> EulerMap:
    path = make_path(Path.model_validate({"schedule": schedule, "shape": shape}), dimension)
    return make_map(path, make_mixture(dimension, weight), steps)


def measure(arm: str = "baseline", case: str = "mixture", seed: int = 0, **sampler: Any) -> SchedulesRecord:
    run = resolve("schedules", case, arm, seed)
    return measure_schedule(run.model_copy(update={"sampler": run.sampler.model_copy(update=sampler)}))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_pair_is_the_whole_system(schedule: str, shape: str):
    """Its mean, and a coordinate orthogonal to mu, of all 200 coordinates followed by themselves."""
    path, mixture = make_path(Path.model_validate({"schedule": schedule, "shape": shape}), 200), make_mixture(200)
    sigma = map_steps(schedule, 200, 20, shape).prior
    x = np.random.default_rng(0).standard_normal((30, 200)) * sigma
    pair = np.stack([x.mean(1), (x[:, 0] - x[:, 1]) / math.sqrt(2)])
    full, reduced = follow_flow(path, mixture.predict_x0, x, 20), follow_flow(path, mixture.predict_pair, pair, 20)
    scale = np.abs(full).max()
    assert np.allclose(full.mean(1), reduced[0], rtol=0, atol=1e-13 * scale)
    assert np.allclose((full[:, 0] - full[:, 1]) / math.sqrt(2), reduced[1], rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [7, 60])
def test_the_threshold_parts_the_samples(schedule: str, shape: str, steps: int):
    euler, mixture = map_steps(schedule, 400, steps, shape), make_mixture(400)
    threshold = euler.find_threshold()
    assert threshold is not None
    path = make_path(Path.model_validate({"schedule": schedule, "shape": shape}), 400)
    starts = threshold + np.array([-1e-10, 1e-10]) * euler.prior
    ends = follow_flow(path, mixture.predict_pair, np.stack([starts, np.ones(2)]), steps)
    assert ends[0, 0] < 0 < ends[0, 1]
    assert ends[1] * euler.prior == pytest.approx(euler.spread)
    assert euler.find_weight(400) == pytest.approx(norm.sf(threshold * 20 / euler.prior), rel=1e-9)


def test_a_step_that_is_not_monotone_has_no_threshold():
    euler = EulerMap(np.array([1.0, -0.5]), np.array([0.1, 0.1]), np.array([1.0, 1.0]), 0.7, 1.0)
    assert euler.find_threshold() is None
    assert euler.find_weight(10) is None


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("shape", "limit"), [("linear", 6000), ("trigonometric", 100_000)])
def test_many_steps_find_the_weight_and_the_spread(schedule: str, shape: str, limit: int):
    euler = map_steps(schedule, 100, limit, shape)
    assert euler.find_weight(100) == pytest.approx(0.8, abs=5e-4)
    assert euler.spread == pytest.approx(0.5, rel=0.02)


def test_modes_of_equal_weight_keep_it_whatever_the_schedule():
    for schedule in SCHEDULES:
        assert map_steps(schedule, 10**6, 20, weight=0.5).find_weight(10**6) == pytest.approx(0.5, abs=1e-12)


def test_vp_loses_the_weight_and_ve_the_spread():
    """The first step of VP moves m by (2p - 1) r / K; the coordinates of VE contract to s^2 K / sqrt(d)."""
    d, steps = 10**8, 20
    vp, ve = map_steps("vp", d, steps), map_steps("ve", d, steps)
    assert vp.push[0] * math.tanh(vp.tilt) == pytest.approx(0.6 / steps)
    assert vp.find_weight(d) == 1.0
    assert vp.spread == pytest.approx(map_steps("vp", 10**4, steps).spread)
    assert ve.spread == pytest.approx(0.25 * steps / math.sqrt(d), rel=0.06)
    assert ve.find_weight(d) == pytest.approx(0.8, abs=0.01)


def test_what_is_lost_depends_on_the_ratio_of_steps_to_the_root_of_the_dimension():
    small, large = (map_steps("vp", d, k).find_weight(d) for d, k in ((10**4, 100), (10**6, 1000)))
    assert small == pytest.approx(0.862, abs=3e-3)
    assert small == pytest.approx(large, abs=1.5e-3)
    small, large = (map_steps("ve", d, k).spread for d, k in ((10**4, 100), (10**6, 1000)))
    assert small == pytest.approx(large, rel=0.01)


@pytest.mark.parametrize(
    ("dimension", "schedule", "steps", "weight", "spread"),
    [
        (10**4, "vp", 20, 1.000, 0.464),
        (10**4, "vp", 100, 0.862, 0.493),
        (10**4, "vp", 1000, 0.802, 0.499),
        (10**4, "ve", 20, 0.805, 0.047),
        (10**4, "ve", 100, 0.796, 0.216),
        (10**4, "ve", 1000, 0.802, 0.462),
        (10**4, "vp_dilated", 20, 0.818, 0.433),
        (10**4, "vp_dilated", 100, 0.803, 0.486),
        (10**4, "ve_dilated", 20, 0.815, 0.389),
        (10**4, "ve_dilated", 100, 0.802, 0.476),
        (10**6, "vp", 20, 1.000, 0.464),
        (10**6, "vp", 100, 1.000, 0.493),
        (10**6, "vp", 1000, 0.861, 0.499),
        (10**6, "ve", 20, 0.809, 0.005),
        (10**6, "ve", 100, 0.799, 0.025),
        (10**6, "ve", 1000, 0.801, 0.217),
        (10**6, "vp_dilated", 20, 0.817, 0.431),
        (10**6, "vp_dilated", 100, 0.806, 0.485),
        (10**6, "ve_dilated", 20, 0.818, 0.388),
        (10**6, "ve_dilated", 100, 0.806, 0.472),
    ],
)
def test_the_map_gives_what_samples_of_another_program_gave(
    dimension: int, schedule: str, steps: int, weight: float, spread: float
):
    """Of 20,000 samples: four standard errors of the weight are 0.011, of the spread 2 %."""
    euler = map_steps(schedule, dimension, steps)
    assert euler.find_weight(dimension) == pytest.approx(weight, abs=0.0115)
    assert euler.spread == pytest.approx(spread, rel=0.02, abs=6e-4)


NEEDED = {"vp": (60, 240, 720), "ve": (90, 360, 1440), "vp_dilated": (30, 30, 45), "ve_dilated": (60, 60, 60)}
"""Steps needed in 100, 1600 and 25,600 dimensions by samples of another program, which tried a few numbers only."""


def test_the_steps_needed_grow_as_the_root_of_the_dimension_and_dilated_not_at_all():
    dimensions = (100, 1600, 25_600)
    for schedule in SCHEDULES:
        path = Path.model_validate({"schedule": schedule})
        needed = [find_steps(make_path(path, d), make_mixture(d)) for d in dimensions]
        assert all(needed)
        assert all(0.6 < ours / theirs < 1.1 for ours, theirs in zip(needed, NEEDED[schedule], strict=True))  # type: ignore[operator]
        slope = np.polyfit(np.log(dimensions), np.log(needed), 1)[0]  # type: ignore[arg-type]
        assert slope == pytest.approx(0.0 if "dilated" in schedule else 0.5, abs=0.1)


def test_dilated_ve_on_the_trigonometric_path_keeps_no_spread():
    for d in (10**6, 10**8):
        assert map_steps("ve_dilated", d, 20, "trigonometric").spread > 60 * 0.5
    assert map_steps("ve_dilated", 10**6, 4000, "trigonometric").spread == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("arm", ["dimension=10000,steps=100", "schedule=ve", "schedule=ve_dilated,shape=trigonometric"])
def test_samples_agree_with_the_map(arm: str):
    record = measure(arm)
    assert record.weight_exact is not None and record.spread_exact is not None
    assert record.weight == pytest.approx(record.weight_exact, abs=3.5 * record.weight_stderr)
    assert record.spread == pytest.approx(record.spread_exact, abs=3.5 * record.spread_stderr)  # type: ignore[operator]
    assert record.times[0] == 0 and record.times[-1] == 1
    assert len(record.means) == len(record.times)


def test_the_standard_error_is_the_spread_over_seeds():
    records = [measure("dimension=10000,steps=100", seed=seed, samples=400) for seed in range(40)]
    spread = np.std([record.weight for record in records], ddof=1)
    assert 0.7 < np.mean([record.weight_stderr for record in records]) / spread < 1.4
    assert measure(samples=50).weight_stderr > 0  # all samples on one side


def test_no_steps_are_the_fewest_that_do(monkeypatch: pytest.MonkeyPatch):
    record = measure("schedule=vp_dilated,dimension=1600,steps=0")
    assert abs(record.weight_exact - 0.8) < 0.012  # type: ignore[operator]
    assert abs(record.spread_exact / 0.5 - 1) < 0.1  # type: ignore[operator]
    fewer = map_steps("vp_dilated", 1600, record.steps - 1)
    assert abs(fewer.find_weight(1600) - 0.8) >= 0.012  # type: ignore[operator]
    monkeypatch.setattr(module, "_MOST_STEPS", 100)
    with pytest.raises(MeasureError, match="100 steps do not keep both"):
        measure_mixture(resolve("schedules", "mixture", "schedule=ve,steps=0"))


def make_spins(arm: str, spins: int, samples: int) -> Any:
    run = resolve("schedules", "curie_weiss", arm)
    update = {"spin": run.spin.model_copy(update={"spins": spins})}
    return run.model_copy(update=update | {"sampler": run.sampler.model_copy(update={"samples": samples})})


def test_spins_lose_what_the_schedule_loses_and_dilation_keeps_both():
    vp, dilated, ve = (
        measure_spins(make_spins(arm, 4000, 150)) for arm in ("baseline", "schedule=vp_dilated", "schedule=ve")
    )
    assert vp.weight > 0.95
    assert vp.square == pytest.approx(1, abs=5e-3)
    assert ve.weight == pytest.approx(ve.weight_target, abs=3 * ve.weight_stderr)
    assert ve.square < 0.97  # type: ignore[operator]
    assert ve.up > 0.995  # type: ignore[operator]
    assert dilated.weight == pytest.approx(dilated.weight_target, abs=3 * dilated.weight_stderr)
    assert dilated.up == pytest.approx(dilated.up_target, abs=6e-3)
    assert dilated.square == pytest.approx(1, abs=5e-3)


def test_how_spins_are_batched_does_not_matter():
    run = make_spins("schedule=ve_dilated", 300, 20)
    one, other = (measure_spins(run, batch).model_dump() for batch in (100, 2100))
    for name in ("weight", "square", "up"):
        assert one[name] == pytest.approx(other[name], rel=1e-12)
    assert one["weight_target"] == pytest.approx(0.7901, abs=1e-3)


@pytest.mark.parametrize(
    ("case", "arm", "says"),
    [
        ("mixture", "k=4.0", "arm 'k=4.0': k has no effect with schedule = vp"),
        ("mixture", "schedule=ve_dilated,k=11.0,dimension=100", "k = 11: it must be below sqrt(d) = 10"),
        ("curie_weiss", "steps=0", "steps = 0: the fewest steps are known for the mixture alone"),
        ("mixture", "schedule=edm", "schedule = 'edm'"),
        ("curie_weiss", "beta=1.0", "beta = '1.0': allowed: more than 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(case: str, arm: str, says: str):
    with pytest.raises(SpecError) as caught:
        resolve("schedules", case, arm)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("case", "arm"),
    [("mixture", "baseline"), ("mixture", "schedule=ve_dilated,steps=0"), ("curie_weiss", "baseline")],
)
def test_a_run_has_a_price(case: str, arm: str):
    cost = price(load_project(ROOT), resolve("schedules", case, arm), "measure", Bench(Compute(), "cpu", 1.0), (0, 0))
    assert 0 < cost.seconds < 600


def test_longer_runs_and_higher_dimensions_cost_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Bench, "time", lambda *_: 1.0)
    bench, project = Bench(Compute(), "cpu", 1.0), load_project(ROOT)

    def find_seconds(case: str, arm: str) -> float:
        return price(project, resolve("schedules", case, arm), "measure", bench, (0, 0)).seconds

    assert find_seconds("mixture", "steps=1000") == 20
    assert find_seconds("mixture", "dimension=160000,steps=0") == pytest.approx(10)
    assert find_seconds("mixture", "schedule=vp_dilated,dimension=160000,steps=0") == 1
    assert find_seconds("curie_weiss", "steps=100,samples=1000") == 20 * 100
