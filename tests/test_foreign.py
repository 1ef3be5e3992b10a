"""Networks that a user brings: in the time test, and as arms."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import foreign_networks as networks
import pytest
import torch
from problems import ROOT, later, resolve
from trainings import (
    COMPUTE,
    ddpm_run,
    digest,
    evaluate_node_run,
    make_checkpoint,
    node_run,
    stripes,
    train_ddpm_run,
    train_node_run,
)
from workspace import Workspace, copy_project, make_reduced

from pipeline.data.arrays import read_arrays
from pipeline.layers.foreign import DENOISER, FUNCTION, ForeignDenoiser, ForeignFunction, make_network
from pipeline.run.foreign import digest_factories, import_factory, import_own, list_sources, read_trained
from pipeline.run.outputs import read_weights
from pipeline.run.workers import Worker
from pipeline.schema.base import SpecError
from pipeline.schema.foreign import check_factories
from pipeline.schema.resolved import describe_run
from pipeline.studies.ddpm.evaluate import measure_averages, measure_initial, measure_losses
from pipeline.studies.ddpm.sampler import sample_ddpm
from pipeline.studies.ddpm.sampling_trace import trace_sampling
from pipeline.studies.ddpm.snapshots import find_snapshots
from pipeline.studies.ddpm.trainer import DdpmTrainer
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.trainer import NodeTrainer
from pipeline.studies.timetest import foreign as timetest
from pipeline.studies.timetest.answer import answer, describe
from pipeline.studies.timetest.score import Score

# ---- The time test ---------------------------------------------------------------------------------------------------


def test_a_denoiser_that_ignores_the_time_is_blind_exactly():
    use = timetest.test_time(networks.BlindDenoiser, seeds=2, steps=20)
    assert use.case == "white_noise"
    for tested in use.by_seed.values():
        assert tested.score.r >= 1
        assert tested.score.r_centred == 1
        assert tested.score.change == 0
        assert tested.half is None
    assert answer(use).startswith("No: ")


@pytest.mark.slow
def test_a_denoiser_that_is_told_uses_the_time():
    use = timetest.test_time(networks.ToldDenoiser, seeds=3, steps=200)
    assert all(tested.score.r < 0.9 for tested in use.by_seed.values())
    assert answer(use).startswith("Yes: ")
    said = describe(use)
    assert "forward(x, t), t from 0 to 999" in said
    assert "at least 0.07" in said  # the floor, as of our own networks
    assert use == timetest.test_time(networks.ToldDenoiser, seeds=3, steps=200)


@pytest.mark.slow
def test_an_ode_function_is_lifted_and_knows_the_time():
    use = timetest.test_time(networks.Told, seeds=2, steps=150, lift=8)
    assert use.case == "there_and_back"
    assert all(tested.score.r_centred < 0.9 for tested in use.by_seed.values())


def test_batch_norm_sees_one_time_at_once_and_inputs_are_not_overwritten():
    """Four times in a batch would tell batch norm the time; a shared input that is overwritten would change R."""
    use = timetest.test_time(networks.BlindByBatch, "there_and_back", seeds=1, steps=20, lift=4)
    (tested,) = use.by_seed.values()
    assert tested.score.r >= 1 - 1e-6
    assert tested.score.r_centred == pytest.approx(1, abs=1e-6)
    assert "one seed" in describe(use)


def test_whole_levels_and_outputs_of_diffusers_are_understood():
    network = ForeignDenoiser(networks.Embedded(), (1, 8, 8), DENOISER, "it")
    assert network.form == "integer"
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(network(x, torch.tensor([7.0])), x * network.inner.table.weight[7])


def test_the_time_has_the_scale_that_is_asked_for():
    told = networks.Told(1)
    plain, scaled = (ForeignFunction(told, (1, 8, 8), FUNCTION, "it", scale=scale) for scale in (1.0, 999.0))
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(scaled(torch.tensor(0.5), x), plain(torch.tensor(499.5), x))
    use = timetest.test_time(networks.Odd, "white_noise", seeds=1, steps=20, time="when", scale="unit")
    assert use.call == "forward(x, when), when from 0 to 1"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([(1.4, 1.0), (1.2, 1.0)], "No: its output does not follow the time at all (centred R = 1, 2 seeds)"),
        ([(0.0, 0.0), (0.0, 0.0)], "Yes: it has learned 100 % of what the time changes"),
        ([(0.5, 0.5), (0.6, 0.55)], "Yes: it has learned 47.5 %"),
        ([(1.5, 0.5), (1.6, 0.51)], "R = 1.55: a network without the time could do as well"),
        ([(0.9, 0.8), (1.3, 1.2)], "Undecided: "),
        ([(2.0, 1.5), (2.0, 1.51)], "No: its output varies with the time, and farther"),
        ([(0.5, 0.5)], "one seed gives no interval"),
    ],
)
def test_the_answer_is_what_the_intervals_allow(values: list[tuple[float, float]], says: str):
    scores = [Score(r=r, r_centred=centred, error=0.1, change=1.0, floor=0.3) for r, centred in values]
    tested = {seed: timetest.Tested(score, None) for seed, score in enumerate(scores)}
    assert says in answer(timetest.TimeUse("it", "white_noise", "forward(x, t)", 20, 1, tested))


def test_random_numbers_of_the_caller_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    timetest.test_time(networks.BlindDenoiser, seeds=1, steps=20)
    assert torch.rand(1) == expected


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Crowded", "forward also needs 'y'"),
        ("Strided", r"gives \[2, 1, 4, 4\] for x \[2, 1, 8, 8\]; the same shape"),
        ("Broken", "not finite before the first step"),
        ("Odd", r"forward\(x, when\): one argument must be .* the time"),
        ("fail", "the factory fails: KeyError: 'weights'"),
        ("leave", "the factory fails: SystemExit: 2"),
        ("need", "the factory needs 'path'; it is given channels, image_size alone"),
        ("return_nothing", "returns a NoneType; a torch module is needed"),
        ("freeze", "no parameter to train"),
    ],
)
def test_a_network_that_cannot_be_tested_is_one_line(name: str, says: str):
    with pytest.raises(SpecError, match=says) as refused:
        timetest.test_time(getattr(networks, name), seeds=1, steps=20)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"case": "white_nose"}, "did you mean 'white_noise'"),
        ({"case": "constant"}, "allowed are there_and_back, turning_wind, white_noise"),
        ({"scale": "sigma"}, "allowed are levels, unit"),
        ({"time": "timestp"}, "did you mean 'timestep'"),
        ({"steps": 5}, "steps"),
        ({"seeds": 0}, "at least 1"),
    ],
)
def test_a_wrong_option_is_one_line(options: dict, says: str):
    with pytest.raises(SpecError, match=says) as refused:
        timetest.test_time(networks.BlindDenoiser, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("foreign_networks", "package.module:factory is needed"),
        ("nowhere:make", "there is no module 'nowhere'"),
        ("foreign_networks:Tol", "has no 'Tol' (did you mean 'Told'?)"),
        ("foreign_networks:NUMBER", "NUMBER is a int"),
    ],
)
def test_a_name_of_nothing_is_one_line(name: str, says: str):
    with pytest.raises(SpecError, match=re.escape(says)):
        import_factory(name)


def test_a_factory_gets_what_its_signature_has():
    assert make_network(networks.BlindByBatch, "it", 5, 9).conv.in_channels == 5


@pytest.mark.slow
def test_the_command_prints_the_numbers_and_an_answer():
    command = ["-m", "pipeline", "timetest", "foreign_networks:BlindDenoiser", "--seeds", "2", "--steps", "20"]
    settings: Any = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": "tests"}, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, *command], check=True, **settings)
    assert "centred R" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("No: ")
    wrong = [sys.executable, *command[:3], "foreign_networks:BlindDenoise"]
    done = subprocess.run(wrong, check=False, **settings)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "did you mean 'BlindDenoiser'" in done.stderr


# ---- As arms ---------------------------------------------------------------------------------------------------------

FIELD, DENOISER_NAME = "example:make_field", "example:make_denoiser"
COUNTING = """
import torch
from torch import nn


class Counting(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x, t):
        return self.norm(self.conv(x)) * (1 + t[:, None, None, None] / 999)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose folder networks/ has modules of its own."""
    folder = tmp_path / "networks"
    folder.mkdir()
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("pipeline.run.foreign.ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


def own_node_run(**training: Any) -> Any:
    run = node_run(**training)
    return run.model_copy(update={"network": run.network.model_copy(update={"function": FIELD})})


def own_ddpm_run(denoiser: str = DENOISER_NAME, **training: Any) -> Any:
    return ddpm_run(fields={"denoiser": denoiser}, **training)


def break_off(monkeypatch: pytest.MonkeyPatch, trainer: Any, train: Any) -> None:
    """Train until a step is interrupted; its state is saved."""
    step = trainer.step

    def stop(self: Any, number: int, *arguments: Any) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train()


def test_an_ode_function_of_ones_own_trains_resumes_and_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = own_node_run(epochs=1)
    assert train_node_run(run, tmp_path / "whole", minutes=0) is None
    break_off(monkeypatch, NodeTrainer, lambda: train_node_run(run, tmp_path / "broken", minutes=0))
    assert train_node_run(run, tmp_path / "broken", minutes=0) is None
    assert digest(tmp_path / "broken") == digest(tmp_path / "whole")
    assert digest(tmp_path / "whole") != digest_ours(tmp_path / "ours")
    record = evaluate_node_run(run, tmp_path / "whole")
    assert (record.initial, record.trained, record.share) == (None, None, None)
    assert record.nfe is not None
    assert record.time_use is not None
    assert record.settings["network.function"] == FIELD


def digest_ours(out: Path) -> dict[str, str]:
    train_node_run(node_run(epochs=1), out)
    return digest(out)


@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
def test_all_parameters_of_an_ode_function_of_ones_own_get_a_gradient(gradient: str):
    run = own_node_run()
    run = run.model_copy(update={"network": run.network.model_copy(update={"gradient": gradient})})
    trainer = NodeTrainer(run, stripes(16, 14), COMPUTE, "cpu")
    trainer.step(0, torch.arange(16), trainer.begin_epoch())
    assert all(value.grad.abs().sum() > 0 for value in trainer.network.field.parameters())


def test_a_denoiser_of_ones_own_trains_resumes_and_samples(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With running averages, which are neither parameters nor averaged."""
    (own / "counting.py").write_text(COUNTING)
    run = own_ddpm_run("counting:Counting", steps=5)
    assert train_ddpm_run(run, tmp_path / "whole", minutes=0, channels=3) is None
    break_off(monkeypatch, DdpmTrainer, lambda: train_ddpm_run(run, tmp_path / "broken", minutes=0, channels=3))
    assert train_ddpm_run(run, tmp_path / "broken", minutes=0, channels=3) is None
    assert digest(tmp_path / "broken") == digest(tmp_path / "whole")
    weights = read_weights(list(find_snapshots(tmp_path / "whole").values())[-1])
    assert weights["inner.norm.num_batches_tracked"] == 5
    plan = later("digits", "sampling").model_copy(update={"images": 2, "sets": 1, "steps": 2, "first_snapshot": None})
    checkpoint = make_checkpoint(tmp_path / "sampling")
    trace = trace_sampling(run, plan)
    sample_ddpm(run, tmp_path / "whole", plan, COMPUTE, "cpu", tmp_path / "out", [checkpoint], Worker(), trace)
    assert read_arrays(tmp_path / "out" / "set-0.safetensors")["images"].shape[1] == 3
    images = torch.from_numpy(stripes(4, run.training.image_size, 3).images)
    found = measure_losses(run, weights, images, 4)
    assert found.right != found.mean_level
    assert measure_averages(run, weights, images) is None
    assert measure_initial(run, images) is None


@pytest.mark.parametrize(
    ("study", "arm", "says"),
    [
        ("node", f"time=mlp,function={FIELD}", "time changes nothing: it is of our ODE function"),
        ("node", f"zero_bias=conv,function={FIELD}", "zero_bias changes nothing"),
        ("node", f"block=none,function={FIELD}", "function changes nothing: block=none"),
        ("ddpm", f"channels=32,denoiser={DENOISER_NAME}", "channels changes nothing: it is of our U-Net"),
        ("node", "function=example", "allowed: what matches"),
        ("node", "function=a b:c", "is not field=value"),
        ("node", "function=$(x):y", "is not field=value"),
    ],
)
def test_a_field_without_effect_or_a_name_that_is_none_is_refused(study: str, arm: str, says: str):
    with pytest.raises(SpecError, match=re.escape(says)) as refused:
        resolve(study, arm=arm)
    assert "\n" not in str(refused.value)


def test_the_study_timetest_names_the_command_for_networks_of_ones_own():
    with pytest.raises(SpecError, match=f"with `python -m pipeline timetest {FIELD}`"):
        resolve("timetest", "there_and_back", f"function={FIELD}")


def test_other_fields_keep_their_effect():
    run = resolve("node", arm=f"zero_bias=conv,zero_bias_scope=all,groups=2,augment_channels=4,function={FIELD}")
    assert run.network.function == FIELD
    assert resolve("ddpm", arm=f"replicate=1,denoiser={DENOISER_NAME}").network.replicate == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:make", "networks/nowhere.py is not there"),
        ("mine:mak", "networks/mine.py has no 'mak' (did you mean 'make'?)"),
        ("wrong:make", "networks/wrong.py: "),
    ],
)
def test_a_factory_that_is_not_there_is_refused_by_the_check(own: Path, name: str, says: str):
    (own / "mine.py").write_text("def make(): pass\n")
    (own / "wrong.py").write_text("def make(:\n")
    run = own_node_run()
    run = run.model_copy(update={"network": run.network.model_copy(update={"function": name})})
    with pytest.raises(SpecError, match=re.escape(f"function = {name!r}: ")) as refused:
        check_factories(own.parent, run)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_only_code_of_the_projects_folder_is_an_arms(own: Path):
    (own / "queue.py").write_text("def make(): pass\n")
    for name in ("queue:Queue", "torch.nn:Identity"):
        with pytest.raises(SpecError, match="rename the file there"):
            import_own(name)


# ---- What an edit makes stale ----------------------------------------------------------------------------------------


def test_sources_are_what_is_imported_of_the_folder_and_of_this_project(own: Path):
    (own / "kit").mkdir()
    for name, text in {
        "one.py": "import torch\nfrom kit.layers import Layer\nfrom pipeline.ode.field import FrozenField\n",
        "kit/__init__.py": "",
        "kit/layers.py": "from . import deep\nfrom .more import x\n",
        "kit/deep.py": "from ..beside import y\n",
        "kit/more.py": "def f():\n    import beside\n",
        "beside.py": "import one\n",
        "other.py": "",
    }.items():
        (own / name).write_text(text)
    found = {path.as_posix() for path in list_sources(own.parent, "one")}
    files = ("one", "kit/__init__", "kit/layers", "kit/deep", "kit/more", "beside")
    assert found == {*(f"networks/{name}.py" for name in files), "pipeline/ode/field.py"}


def describe_own(root: Path, run: Any) -> str:
    return describe_run(run, COMPUTE, digest_factories(root, run))


def test_an_edit_changes_the_settings_of_its_arms_and_of_no_other(own: Path):
    shutil.copy(ROOT / "networks" / "example.py", own)
    runs = [own_node_run(), own_ddpm_run(), node_run(), ddpm_run()]
    before = [describe_own(own.parent, run) for run in runs]
    assert before[2:] == [describe_run(run, COMPUTE) for run in runs[2:]]
    text = (own / "example.py").read_text()
    (own / "example.py").write_text(text + "\n# A comment.\n")
    assert [describe_own(own.parent, run) for run in runs] == before
    (own / "example.py").write_text(text + "\nWIDTH = 3\n")
    after = [describe_own(own.parent, run) for run in runs]
    assert [a != b for a, b in zip(before, after, strict=True)] == [True, True, False, False]


def test_weights_are_not_evaluated_with_other_code_than_they_were_trained_with(own: Path, tmp_path: Path):
    shutil.copy(ROOT / "networks" / "example.py", own)
    run, path = own_node_run(), tmp_path / "run.json"
    path.write_text(describe_own(own.parent, run))
    assert read_trained(path, NodeRun)[0] == run
    (own / "example.py").write_text((own / "example.py").read_text().replace("torch.relu", "torch.tanh"))
    with pytest.raises(SpecError, match=r"networks/example\.py: changed since .* was trained with it"):
        read_trained(path, NodeRun)


@pytest.mark.slow
def test_the_check_writes_an_arm_and_refuses_a_wrong_name(tmp_path: Path):
    work = copy_project(tmp_path)
    params = work.read("params.yaml")
    params["node"]["digits"]["arms"].append(f"function={FIELD}")
    work.write("params.yaml", params)
    before = read_resolved(work)
    code = json.loads(before[f"node/digits/function={FIELD}/0.json"])["code"]
    assert list(code) == ["networks/example.py"]
    path = tmp_path / "networks" / "example.py"
    path.write_text(path.read_text().replace("torch.relu", "torch.tanh"))
    after = read_resolved(work)
    stale = {name for name in before if before[name] != after[name]}
    assert {name.rpartition("/")[0] for name in stale} == {f"node/digits/function={FIELD}"}
    path.write_text(path.read_text().replace("def make_field", "def make_fields"))
    refused = work.run("python", "-m", "pipeline", "check", ok=False)
    (line,) = refused.stderr.splitlines()
    assert line.endswith(
        f": node.digits.arms.{len(params['node']['digits']['arms']) - 1}: function = {FIELD!r}: "
        "networks/example.py has no 'make_field' (did you mean 'make_fields'?)"
    )


def read_resolved(work: Workspace) -> dict[str, str]:
    work.run("python", "-m", "stages.check")
    folder = work.root / "resolved"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.json")}


@pytest.mark.ci
def test_arms_of_ones_own_go_from_params_to_the_tables_and_an_edit_makes_them_alone_stale(tmp_path: Path):
    work = make_reduced(tmp_path)
    params = work.read("params.yaml")
    params["node"]["digits"]["arms"] = ["baseline", f"function={FIELD}"]
    params["ddpm"]["digits"]["arms"] = ["baseline", f"denoiser={DENOISER_NAME}"]
    work.write("params.yaml", params)
    targets = ("record_node@digits", "record_ddpm@digits")
    ran = work.drive(*targets)
    assert f"train_node_digits@digits-function={FIELD}-0" in ran
    record = json.loads((tmp_path / f"records/ddpm/digits/denoiser={DENOISER_NAME}/0.json").read_text())
    assert (record["status"], record["trained"]) == ("completed", None)
    shown = work.run("python", "-m", "pipeline", "tables").stdout
    assert f"function={FIELD}" in shown
    assert f"denoiser={DENOISER_NAME}" in shown
    assert work.executed(*targets) == set()
    path = tmp_path / "networks" / "example.py"
    path.write_text(path.read_text() + "\n# A comment.\n")
    assert {name for name in work.executed(*targets) if not name.startswith("check")} == set()
    path.write_text(path.read_text().replace("torch.relu", "torch.sigmoid"))
    work.executed("check")
    stale = {name for name in json.loads(work.run("dvc", "status", "--json").stdout) if name.startswith("train")}
    trained = {f"train_node_digits@digits-function={FIELD}-0", f"train_ddpm_digits@digits-denoiser={DENOISER_NAME}-0"}
    assert stale == trained
    assert work.executed(f"train_node_digits@digits-function={FIELD}-0") == {
        f"train_node_digits@digits-function={FIELD}-0"
    }
