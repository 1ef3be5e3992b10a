"""The plan: counted FLOPs against closed forms, what is to be run against what DVC runs, and how it is told.

The tests with a workspace share one and run in their order, each going on from where the last one ended.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dvc_data.hashfile.hash_info import HashInfo
from problems import ROOT, ddpm_network, later, node_network, resolve
from workspace import Workspace, copy_workspace, find_settings

from pipeline.data.arrays import Split
from pipeline.layers.flops import count_flops
from pipeline.metrics import bench as measuring
from pipeline.metrics.bench import Bench, Cost
from pipeline.plan.dvc.foresee import Status, _read_cached, find_statuses
from pipeline.plan.forecast import Forecast, Priced, count_images, foresee_check, price_rows
from pipeline.plan.rows import Row, list_outputs, make_rows
from pipeline.plan.text import format_flops, format_seconds, write_json, write_text
from pipeline.schema.compute import Compute
from pipeline.schema.project import load_project
from pipeline.schema.study import find_study, list_studies
from pipeline.studies.ddpm.cost import price, price_sampling
from pipeline.studies.node.network import ode_size
from pipeline.studies.node.study import NodeNetwork
from pipeline.studies.node.trainer import NodeTrainer

COMPUTE = Compute(
    device="cpu", precision="float32", tf32=False, compile=False, deterministic=True, portable=False, threads=1
)
PRICED = ("timetest", "linear", "edm2", "full", "phases", "schedules")
"""Studies that measure in one step and say what that costs."""
BATCH, CHANNELS = 4, 8
NETWORK = {
    "channels": CHANNELS,
    "stem_channels": 8,
    "groups": 4,
    "outer_groups": 4,
    "time": "none",
    "rtol": 1.0,
    "atol": 1.0,
}


def step_flops(network: NodeNetwork) -> tuple[int, int, int]:
    """Counted FLOPs of one optimiser step, its NFE and NFE-B."""
    run = resolve("node", "digits", "baseline", 0).model_copy(update={"network": network})
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 1, 12, 12), dtype=np.uint8)
    trainer = NodeTrainer(run, Split(images, np.arange(BATCH, dtype=np.int64), 10), COMPUTE, "cpu")
    tally = trainer.begin_epoch()
    flops = count_flops(lambda: trainer.step(0, torch.arange(BATCH), tally))
    return flops, sum(tally.nfe), sum(tally.nfe_backward)


def test_the_flops_of_a_direct_step_are_those_of_its_convolutions():
    """Forward once an evaluation; back, twice that for each but the one that chooses the first step's size."""
    without = step_flops(node_network(**NETWORK, block="none"))[0]
    flops, nfe, _ = step_flops(node_network(**NETWORK, gradient="direct"))
    evaluation = 2 * (2 * BATCH * CHANNELS * CHANNELS * 9 * ode_size(12) ** 2)
    assert nfe == 14  # two steps, both accepted: the first step size is small
    assert flops - without == evaluation * (nfe + 2 * (nfe - 1))


def test_the_flops_of_an_adjoint_step_hold_its_backward_solve():
    """Each evaluation of it goes forward and back, at some points also to the weights."""
    without = step_flops(node_network(**NETWORK, block="none"))[0]
    flops, nfe, backward = step_flops(node_network(**NETWORK, gradient="adjoint"))
    evaluation = 2 * (2 * BATCH * CHANNELS * CHANNELS * 9 * ode_size(12) ** 2)
    assert evaluation * (nfe + 2 * backward) < flops - without <= evaluation * (nfe + 3 * backward)


def test_sampling_costs_a_forward_pass_a_step_and_image():
    project = load_project(find_settings())
    run, dataset = project.resolve("ddpm", "digits", "baseline", 0), project.data.datasets["digits"]
    sampling = later("digits", "sampling").model_copy(update={"batch_size": 8, "images": 20, "steps": 5})
    once = sampling.model_copy(update={"images": 8, "steps": 1})
    costs = [price_sampling(run, which, dataset, Bench(COMPUTE, "cpu", 0.5)) for which in (once, sampling)]
    assert costs[1].flops == pytest.approx(costs[0].flops * 5 * 20 / 8)


def test_imported_weights_are_not_trained():
    project = load_project(find_settings())
    run = resolve("ddpm").model_copy(update={"network": ddpm_network(weights="elsewhere-0123456789ab")})
    assert price(project, run, "train", Bench(COMPUTE, "cpu", 0.5), (0, 0)) == Cost(0, 0, False)


def test_a_step_that_takes_long_is_measured_on_smaller_batches(monkeypatch: pytest.MonkeyPatch):
    seconds = {2: 1.0, 8: 2.5}
    monkeypatch.setattr(measuring, "count_flops", lambda work: work() or int(1e12))
    monkeypatch.setattr(Bench, "time", lambda self, work, batch: seconds[batch])
    asked: list[int] = []
    cost = Bench(COMPUTE, "cpu", 0.5).measure(asked.append, 32)
    assert asked == [2, 8]
    assert cost == Cost(flops=4e12, seconds=2.5 + 24 * 1.5 / 6, scaled=True)


def take_rows(rows: list[Row], study: str, count: int, seeds: Sequence[int]) -> list[Row]:
    """The first rows of a study, with so many seeds, whatever the panel has."""
    found = [row for row in rows if row.run.study == study][:count]
    return [replace(row, statuses=dict.fromkeys(seeds, next(iter(row.statuses.values())))) for row in found]


def plan_rows(status: Status) -> list[Row]:
    """The rows of the last commit's panel, all with one status."""
    project = load_project(find_settings())
    return make_rows(project, dict.fromkeys([path for _, _, path in list_outputs(project)], status))


def test_there_is_a_row_for_each_step_of_each_study_and_arm():
    rows = plan_rows("made")
    assert {(row.run.study, row.step) for row in rows} == {
        (study, step) for study in list_studies(ROOT) for step in find_study(study).steps
    }
    keys = [(row.group, row.run.arm) for row in rows]
    assert len(set(keys)) == len(keys)


def test_seeds_share_a_measurement_and_a_failing_arm_is_named(monkeypatch: pytest.MonkeyPatch):
    rows = plan_rows("made")
    trainings, theory = take_rows(rows, "node", 3, (0, 1)), take_rows(rows, "theory", 1, (0, 1, 2))
    todo = [*trainings, *theory]  # three trainings, and a study that says no price
    measured = []

    def fake(*args: object) -> Cost:
        measured.append(args[1])
        if len(measured) == 2:
            raise ArithmeticError("gave up")
        return Cost(2e12, 300.0, False)

    monkeypatch.setattr("pipeline.studies.node.cost.price", fake)
    monkeypatch.setattr("pipeline.plan.forecast.choose_device", lambda compute: "cpu")
    monkeypatch.setattr("pipeline.plan.forecast.time_check", lambda: 1.0)
    priced, device, start_up = price_rows(find_settings(), load_project(find_settings()), todo)
    assert [len(row.statuses) for row in todo] == [2, 2, 2, 3]
    assert measured == [row.run for row in trainings]
    assert priced[0].seconds == 300
    assert start_up >= 2
    assert [one.failure for one in priced] == [None, "gave up", None]
    assert device == "cpu"
    assert price_rows(find_settings(), load_project(find_settings()), todo[3:]) == ([], None, 0.0)


def forecast(statuses: Mapping[int, Status]) -> Forecast:
    """A plan of two trainings, of which the second is there already, and a measurement without a price."""
    rows = plan_rows("kept")
    rows = [*take_rows(rows, "node", 2, (0, 1)), *take_rows(rows, "theory", 1, (0, 1, 2))]
    rows[0].statuses.update(statuses)
    made = [Priced(rows[0], Cost(2e12, 300.0, True))] if "made" in statuses.values() else []
    if made:
        rows[2].statuses[0] = "made"
    return Forecast(rows, made, "cpu", 2, ["a note"] if made else [], start_up=10.0, slots=2)


def test_the_text_multiplies_by_seeds():
    lines = write_text(forecast({0: "made", 1: "made"})).splitlines()
    told = [" ".join(line.split()) for line in lines]
    assert told[1] == "train node digits baseline 0,1 0 0 2 ~5.0 min ~10.0 min"
    assert told[2] == "measure theory features baseline 0 0 2 not priced"
    assert told[3] == ""
    assert "all, on this device (cpu, 2 threads): 2 trainings: 4 TFLOP, 10.0 min" in lines
    assert "`make`: about 5.0 min with 2 slots; `dvc repro`: about 10.3 min" in lines
    assert lines[-1] == "a note"
    assert write_text(forecast({0: "restored"})).startswith("Nothing to compute: 6 runs up to date, 1 to be ")


def test_what_is_for_a_gpu_is_told_in_its_days():
    plan = forecast({0: "made", 1: "made"})
    assert "on one GPU" not in write_text(plan)
    row = plan.priced[0].row
    lines = write_text(replace(plan, priced=[Priced(row, Cost(0.5 * 86400 * 40e12, 1e9, True))])).splitlines()
    assert "all, on one GPU: 24.0 h at 40 TFLOP/s and 4.0 d at 10 TFLOP/s sustained" in lines


def test_settings_that_changed_have_no_content_in_the_cache():
    assert _read_cached(None, HashInfo("params", {"cases": {"node": ["digits"]}})) is None


def test_steps_without_a_price_are_one_line():
    rows = [row for row in plan_rows("made") if row.group == "evaluate node digits"]
    lines = write_text(Forecast(rows, [], None, 1, [])).splitlines()
    count = sum(len(row.statuses) for row in rows)
    assert " ".join(lines[1].split()) == f"evaluate node digits {len(rows)} arms {count} runs 0 0 not priced"
    assert lines[3:] == ["0 runs up to date, 0 to be restored from DVC's cache."]


def test_the_json_says_the_same():
    content = json.loads(write_json(forecast({0: "made", 1: "restored"})))
    assert content["rows"][0]["seeds"] == {"made": [0], "restored": [1], "kept": []}
    assert content["rows"][0]["seconds_each"] == content["seconds"] == 300
    assert content["seconds_run"] == 150.15
    assert content["seconds_repro"] == 310
    assert content["flops"] == 2e12
    assert "seconds_each" not in content["rows"][1]
    assert content["rows"][2]["seconds_each"] is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.6, "60 s"), (150, "2.5 min"), (7200, "2.0 h"), (20 * 86400, "20.0 d"), (1e8, "1157 d")]
)
def test_times_have_a_fitting_unit(seconds: float, text: str):
    assert format_seconds(seconds) == text
    assert [format_flops(flops) for flops in (1.234e9, 2.1e17)] == ["0.00123", "210,000"]


@pytest.fixture(scope="module")
def work(calm: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return copy_workspace(calm, tmp_path_factory.mktemp("plan") / "project")


def edit(work: Workspace, name: str, keys: list[str], value: object) -> None:
    content = work.read(name)
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    work.write(name, content)


def foretell(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Status]:
    """What becomes of each training and sampling."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(root.parent / "home"))
    monkeypatch.chdir(root)
    project = load_project(root)
    paths = [path for step, _, path in list_outputs(project) if step in ("train", "sample")]
    return find_statuses(Path(), paths, foresee_check(root, project))


def run(work: Workspace) -> set[str]:
    """What is trained and sampled."""
    ran = work.drive("train_node_digits", "sample_digits")
    return {stage for stage in ran if stage.startswith(("train", "sample"))}


NODE, NORM, GROUPS = (f"runs/node/digits/{arm}/0" for arm in ("baseline", "norm=batch", "groups=2"))
DDPM, SAMPLES, REMEDY, REMEDY_SAMPLES = (
    f"{kind}/ddpm/digits/{arm}/0" for arm in ("baseline", "position=mlp") for kind in ("runs", "samples")
)


def become(node: Status, groups: Status, ddpm: Status) -> dict[str, Status]:
    """Statuses of all outputs, those of a study alike."""
    made = dict.fromkeys((DDPM, SAMPLES, REMEDY, REMEDY_SAMPLES), ddpm)
    return {NODE: node, NORM: node, GROUPS: groups, **made}


@pytest.mark.ci
def test_of_a_fresh_clone_everything_is_planned_and_nothing_is_written(
    calm: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calm.run("git", "clone", "-q", str(calm.root), str(tmp_path / "project"))
    work = Workspace(tmp_path / "project")

    def files() -> list[Path]:
        found = (path.relative_to(work.root) for path in work.root.rglob("*"))
        return sorted(
            path for path in found if path.parts[0] not in (".dvc", ".git") and "__pycache__" not in path.parts
        )

    before = files()
    content = json.loads(work.run("python", "-m", "pipeline", "plan", "--json").stdout)
    assert files() == before
    rows = content["rows"]
    trained = [row for row in rows if row["study"] in ("node", "ddpm")]
    assert all(row["step"] == "measure" for row in rows if row not in trained)
    assert [(row["step"], row["study"], row["arm"], row["seeds"]["made"]) for row in trained] == [
        (step, study, arm, [0])
        for study, steps in {"node": ("train", "evaluate"), "ddpm": ("train", "sample", "evaluate")}.items()
        for step in steps
        for arm in ("baseline", {"node": "norm=batch", "ddpm": "position=mlp"}[study])
    ]
    priced = [row for row in rows if row["step"] in ("train", "sample") or row["study"] in PRICED]
    assert all(row["seconds_each"] > 0 for row in priced)
    multiply = [row for row in priced if row["study"] not in ("edm2", "full", "phases", "schedules")]  # each of theirs
    assert all(row["flops_each"] > 0 for row in multiply)
    assert all(row["flops_each"] is None for row in rows if row not in priced)
    assert set(foretell(work.root, monkeypatch).values()) == {"made"}


@pytest.mark.ci
def test_afterwards_there_is_nothing_to_do_and_torch_is_not_imported(work: Workspace, monkeypatch: pytest.MonkeyPatch):
    assert set(foretell(work.root, monkeypatch).values()) == {"kept"}
    code = "import runpy, sys; sys.argv = ['pipeline', 'plan']; runpy.run_module('pipeline', run_name='__main__'); "
    shown = work.run("python", "-c", code + "assert 'torch' not in sys.modules").stdout
    project = load_project(work.root)
    assert shown == (f"Nothing to compute: {len(project.runs())} runs up to date, 0 to be restored from DVC's cache.\n")
    assert count_images(work.root, project, "node", "digits") == (1437, 360)
    data = project.data.datasets["digits"]
    assert (data.train_images, data.test_images) == (1437, 360)


@pytest.mark.ci
def test_a_new_arm_is_made_and_comes_back_from_the_cache(work: Workspace, monkeypatch: pytest.MonkeyPatch):
    keys, arms = ["node", "digits", "arms"], ["baseline", "norm=batch"]
    edit(work, "params.yaml", keys, [*arms, "groups=2"])
    statuses = foretell(work.root, monkeypatch)
    assert statuses == become("kept", "made", "kept")
    assert run(work) == {"train_node_digits@digits-groups=2-0"}

    edit(work, "params.yaml", keys, arms)
    shutil.rmtree(work.root / GROUPS)
    assert set(foretell(work.root, monkeypatch).values()) == {"kept"}
    assert run(work) == set()

    edit(work, "params.yaml", keys, [*arms, "groups=2"])
    assert foretell(work.root, monkeypatch)[GROUPS] == "restored"
    assert run(work) == set()


@pytest.mark.ci
def test_a_budget_makes_its_study_anew_and_its_old_value_restores_it(work: Workspace, monkeypatch: pytest.MonkeyPatch):
    keys = ["cases", "digits", "training", "steps"]
    edit(work, "specs/ddpm/study.yaml", keys, 7)
    statuses = foretell(work.root, monkeypatch)
    assert statuses == become("kept", "kept", "made")
    steps, arms = ("train_ddpm_digits", "sample_digits"), ("baseline", "position=mlp")
    assert run(work) == {f"{step}@digits-{arm}-0" for step in steps for arm in arms}
    edit(work, "specs/ddpm/study.yaml", keys, 6)
    statuses = foretell(work.root, monkeypatch)
    assert statuses == become("kept", "kept", "restored")
    assert run(work) == set()


@pytest.mark.ci
def test_data_that_are_fetched_again_are_taken_for_the_same(work: Workspace, monkeypatch: pytest.MonkeyPatch):
    with (work.root / "pipeline" / "data" / "fetch.py").open("a") as file:
        file.write("TOUCHED = 1\n")
    assert set(foretell(work.root, monkeypatch).values()) == {"kept"}
    assert run(work) == set()
    edit(work, "specs/node/study.yaml", ["cases", "digits", "training", "image_size"], 13)
    statuses = foretell(work.root, monkeypatch)
    assert statuses == become("made", "made", "kept")
    edit(work, "specs/node/study.yaml", ["cases", "digits", "training", "image_size"], 12)


@pytest.mark.ci
def test_without_its_lock_everything_is_restored(work: Workspace, monkeypatch: pytest.MonkeyPatch):
    (work.root / "dvc.lock").unlink()
    assert set(foretell(work.root, monkeypatch).values()) == {"restored"}
    assert run(work) == set()


@pytest.mark.ci
def test_a_mistake_is_one_line(work: Workspace):
    edit(work, "params.yaml", ["compute", "threads"], 0)
    result = work.run("python", "-m", "pipeline", "plan", ok=False)
    assert result.returncode == 1
    assert re.match(r"error: params\.yaml: line \d+: compute\.threads = 0", result.stderr)
    assert result.stderr.count("\n") == 1
    work.run("git", "checkout", "-q", "params.yaml")
    with (work.root / "dvc.yaml").open("a") as file:
        file.write("  extra:\n    cmd: echo ${nowhere}\n")
    result = work.run("python", "-m", "pipeline", "plan", ok=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: DVC: ")
    assert result.stderr.count("\n") == 1
