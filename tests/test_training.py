"""Seeds, and trainings of the NODE study that give the same bytes twice."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from problems import ROOT, resolve
from test_data import cifar_archive, fetch_from
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

from pipeline.compute.seeding import derive_seed, make_generator
from pipeline.data.arrays import Split
from pipeline.data.fetch import fetch_dataset, resize_images
from pipeline.run.progress import show_progress
from pipeline.schema.data import find_dataset, load_data_spec
from pipeline.schema.document import read_document
from pipeline.schema.record import Failure
from pipeline.schema.resolved import describe_run, read_run
from pipeline.studies.ddpm.trainer import DdpmTrainer
from pipeline.studies.node.evaluate import evaluate_node
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.train import train_node
from pipeline.studies.node.trainer import NodeTrainer


def test_purposes_have_streams_of_their_own():
    assert derive_seed(0, "noise", 1) != derive_seed(0, "noise", 2) != derive_seed(1, "noise", 2)
    assert derive_seed(0, "noise", 1) != derive_seed(0, "order", 1)
    first, again = (torch.rand(3, generator=make_generator("cpu", 5, "noise", 7)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.slow
def test_a_node_training_learns_and_gives_the_same_bytes_twice(tmp_path: Path):
    for name in ("first", "again"):
        train_node_run(node_run(), tmp_path / name)
    train_node_run(node_run(seed=1), tmp_path / "other")
    first, again, other = (digest(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert first["last.safetensors"] != other["last.safetensors"]
    rows = [line.split("\t") for line in (tmp_path / "first" / "history.tsv").read_text().splitlines()]
    assert float(rows[2][rows[0].index("test_accuracy")]) > 95
    assert read_run(tmp_path / "first" / "run.json", NodeRun) == (node_run(), COMPUTE)
    assert set(first) == {"run.json", "trace.json", "history.tsv", "best.safetensors", "last.safetensors"}


def test_the_plateau_schedule_divides_the_rate_by_ten(tmp_path: Path):
    run = node_run(epochs=7, schedule="plateau", patience=1, learning_rate=0.05)
    train_node_run(run, tmp_path / "run", images=48)
    rates = [float(line.split("\t")[1]) for line in (tmp_path / "run" / "history.tsv").read_text().splitlines()[1:]]
    # The accuracy is 100 % after the first epoch and cannot rise.
    assert rates == pytest.approx([0.05, 0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005])


@pytest.mark.parametrize(
    ("fields", "training", "says"),
    [
        ({}, {"learning_rate": 1e12}, "not finite|underflow|max_steps"),
        ({"max_steps": 2}, {}, "max_steps = 2 exceeded"),
        ({"max_steps": 2, "gradient": "adjoint"}, {}, "max_steps = 2 exceeded"),
        ({"max_steps": 2, "implementation": "torchdiffeq"}, {}, "max_num_steps exceeded"),
        ({"block": "none"}, {"learning_rate": 1e30}, "the training loss is nan|the training loss is inf"),
    ],
)
def test_a_run_that_fails_is_recorded_and_ends_without_an_error(
    fields: dict, training: dict, says: str, tmp_path: Path
):
    run = node_run(**training)
    run = run.model_copy(update={"network": run.network.model_copy(update=fields)})
    out = tmp_path / "run"
    reason = train_node_run(run, out)
    assert reason is not None
    failure = json.loads((out / "failure.json").read_text())
    assert re.search(says, failure["reason"])
    assert failure["reason"] == reason
    assert failure["epoch"] >= 1
    assert 0 <= failure["step"] <= 2 * 6
    assert not (out / "last.safetensors").exists()
    record = read_document(out / "failure.json", Failure)
    assert (record.epoch, record.step) == (failure["epoch"], failure["step"])


SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
import torch._dynamo  # what a first step would load
from trainings import ddpm_run, node_run, train_ddpm_run, train_node_run

study, out = sys.argv[1], Path(sys.argv[2]) / "run"
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (700 << 20),) * 2)
if study == "node":
    print(train_node_run(node_run(batch_size=16384), out, images=16384))
else:
    print(train_ddpm_run(ddpm_run(batch_size=16384, image_size=14), out, 16384))
"""


@pytest.mark.ci
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is Linux's")
@pytest.mark.parametrize("study", ["node", "ddpm"])
def test_a_run_for_which_memory_is_short_is_recorded_and_ends_without_an_error(study: str, tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", SHORT_OF_MEMORY, study, str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "out of memory\n"
    failure = json.loads((tmp_path / "run" / "failure.json").read_text())
    assert failure == {"epoch": 1, "step": 0, "reason": "out of memory"}


@pytest.mark.slow
@pytest.mark.parametrize("study", ["node", "ddpm"])
def test_a_run_that_ran_out_of_memory_keeps_its_state_for_another_attempt(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On a GPU: torch's error in place of one."""
    trainer = {"node": NodeTrainer, "ddpm": DdpmTrainer}[study]
    step = trainer.step

    def train(out: Path) -> str | None:
        if study == "node":
            return train_node_run(node_run(), out, minutes=0)
        return train_ddpm_run(ddpm_run(steps=5), out, minutes=0)

    def run_out(self: Any, number: int, *arguments: Any) -> Any:
        if number == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. Process 123 has 7 GiB in use")
        return step(self, number, *arguments)

    train(tmp_path / "unbroken")
    monkeypatch.setattr(trainer, "step", run_out)
    assert train(tmp_path / "run") == "out of memory"  # without numbers of this machine: an output is hashed
    failure = json.loads((tmp_path / "run" / "failure.json").read_text())
    assert (failure["step"], failure["reason"]) == (3, "out of memory")
    begun = []
    monkeypatch.setattr(trainer, "step", lambda self, number, *rest: begun.append(number) or step(self, number, *rest))
    assert train(tmp_path / "run") is None
    assert begun[0] == 3
    assert digest(tmp_path / "run") == digest(tmp_path / "unbroken")


def test_a_mistake_of_ours_is_no_failure_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(NodeTrainer, "step", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        train_node_run(node_run(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_completed_run_has_evaluations_and_time_awareness(tmp_path: Path):
    run = node_run()
    run = run.model_copy(update={"network": run.network.model_copy(update={"gradient": "adjoint"})})
    assert train_node_run(run, tmp_path / "run") is None
    record = evaluate_node_run(run, tmp_path / "run")
    for nfe in (record.nfe, record.nfe_last, record.nfe_train, record.nfe_train_last):
        assert nfe is not None
        assert nfe >= 8
    assert record.nfe_backward is not None
    assert record.nfe_backward >= 8
    assert record.initial is not None
    assert record.trained is not None
    assert record.initial.change[-1] == record.change_initial != record.change
    assert 0 < record.share_initial < 1  # type: ignore[operator]
    assert len(record.initial.site_change) == 2


def test_without_an_ode_block_there_are_no_evaluations(tmp_path: Path):
    run = node_run()
    run = run.model_copy(update={"network": run.network.model_copy(update={"block": "none"})})
    train_node_run(run, tmp_path / "run")
    record = evaluate_node_run(run, tmp_path / "run")
    assert (record.nfe, record.nfe_train, record.nfe_backward, record.change) == (None,) * 4
    assert record.accuracy > 90


def test_the_direct_gradient_has_no_backward_evaluations_and_learns_as_well(tmp_path: Path):
    run = node_run()
    run = run.model_copy(update={"network": run.network.model_copy(update={"gradient": "direct"})})
    train_node_run(run, tmp_path / "run")
    record = evaluate_node_run(run, tmp_path / "run")
    assert record.nfe_backward is None
    assert record.accuracy > 95


GOLDEN = {  # losses of the first four steps on the digits
    ("native", "adjoint"): [2.337670, 2.304983, 2.261018, 2.199006],
    ("native", "direct"): [2.337670, 2.305304, 2.261219, 2.209155],
    ("torchdiffeq", "adjoint"): [2.337670, 2.304978, 2.261156, 2.197780],
}
ROUNDING = [1e-6, 1e-5, 1e-3, 1e-3]
"""Of themselves: ReLU makes the solver's steps jump, so what two models of CPU round differently grows."""


@pytest.mark.parametrize(("implementation", "gradient"), list(GOLDEN))
def test_golden_loss_trace(implementation: str, gradient: str):
    """Pins the numerics of the NODE study: a change of code that moves these changed the training.

    Measured from one model of CPU to another: 4e-9, 3e-6, 2e-4, 6e-4 of themselves; the fifth, 2.5e-3.
    """
    digits, _ = fetch_dataset(find_dataset(load_data_spec(ROOT), "digits"), {}, ROOT)
    train = Split(resize_images(digits.images, 12), digits.labels, digits.classes)
    run = resolve("node", "digits", "baseline", 0)
    fields = {"channels": 32, "groups": 16, "implementation": implementation, "gradient": gradient}
    recipe = {"batch_size": 96, "learning_rate": 0.15, "epochs": 8}  # not the case's own, which may change
    run = run.model_copy(update={
        "network": run.network.model_copy(update=fields), "training": run.training.model_copy(update=recipe),
    })  # fmt: skip
    trainer = NodeTrainer(run, train, COMPUTE, "cpu")
    tally, losses = trainer.begin_epoch(), []
    for batch, step in zip(trainer.order(1), range(4), strict=False):
        before = tally.loss.item()
        trainer.step(step, batch, tally)
        losses.append((tally.loss.item() - before) / len(batch))
    for loss, pinned, rounding in zip(losses, GOLDEN[implementation, gradient], ROUNDING, strict=True):
        assert loss == pytest.approx(pinned, rel=rounding)


@pytest.mark.ci
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_ode_function_trains_the_same(tmp_path: Path):
    """Same losses up to rounding; the compiler may reorder sums."""
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    train, losses = stripes(32, 14), {}
    for compiled in (False, True):
        trainer = NodeTrainer(node_run(), train, COMPUTE.model_copy(update={"compile": compiled}), "cpu")
        tally, losses[compiled] = trainer.begin_epoch(), []
        for step, batch in enumerate(trainer.order(1)):
            trainer.step(step, batch, tally)
            losses[compiled].append(tally.loss.item())
        # That the compiler was at work at all, and only when asked: equal losses alone would not show it.
        assert bool(torch._dynamo.utils.counters["stats"]["unique_graphs"]) == compiled
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)


def test_bfloat16_trains_the_node_study(tmp_path: Path):
    compute = COMPUTE.model_copy(update={"precision": "bfloat16"})
    assert train_node_run(node_run(), tmp_path / "node", compute) is None


@pytest.mark.ci
@pytest.mark.parametrize(("dataset", "classes", "params"), [("cifar10", 10, 2_023_562), ("cifar100", 100, 2_046_692)])
def test_a_full_size_epoch_on_an_archive_in_cifars_format(dataset: str, classes: int, params: int, tmp_path: Path):
    """C = 256 on colour images with the paper's recipe, augmentation included."""
    path = tmp_path / "cifar.tar.gz"
    train, test = fetch_from(path, cifar_archive(path, classes, each=2), classes)
    run = resolve("node", dataset, "baseline", 0)
    run = run.model_copy(update={"training": run.training.model_copy(update={"epochs": 1, "batch_size": 4})})
    checkpoint, settings = make_checkpoint(tmp_path / "checkpoint"), describe_run(run, COMPUTE)
    assert train_node(run, train, test, COMPUTE, "cpu", tmp_path / "run", checkpoint, settings) is None
    record = evaluate_node(run, tmp_path / "run", test, COMPUTE, "cpu")
    assert record.num_params == params
    assert record.images == 2
    assert record.nfe_train is not None
    assert record.nfe_train >= 14


def test_progress_in_a_log_is_lines(capsys: pytest.CaptureFixture[str]):
    """A reader of a log, such as `docker logs`, sees nothing of a line that has not ended."""
    with show_progress(4, "title", "step", done=1) as bar:
        begun = capsys.readouterr().err
        bar.update(3)
    assert re.fullmatch(r"title:  25%.* 1/4 .*\n", begun)
    assert re.fullmatch(r"title: 100%.* 4/4 .*\n", capsys.readouterr().err)
