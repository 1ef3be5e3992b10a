"""Seeds, and trainings of the NODE study that give the same bytes twice."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from problems import ROOT
from test_data import cifar_archive, fetch_from
from trainings import COMPUTE, digest, node_run, stripes

from pipeline.data.arrays import Split
from pipeline.data.fetch import fetch_dataset, resize_images
from pipeline.schema.data import find_dataset, load_data_spec
from pipeline.schema.node import NodeRun, load_node_spec, resolve_node_run
from pipeline.schema.record import Failure, NodeRecord
from pipeline.training.node import NodeTrainer, train_node
from pipeline.training.outputs import read_run
from pipeline.training.progress import show_progress
from pipeline.training.seeding import derive_seed, make_generator
from stages.evaluate_node import evaluate


def test_purposes_have_streams_of_their_own():
    assert derive_seed(0, "noise", 1) != derive_seed(0, "noise", 2) != derive_seed(1, "noise", 2)
    assert derive_seed(0, "noise", 1) != derive_seed(0, "order", 1)
    first, again = (torch.rand(3, generator=make_generator("cpu", 5, "noise", 7)) for _ in range(2))
    assert torch.equal(first, again)


def test_a_node_training_learns_and_gives_the_same_bytes_twice(tmp_path: Path):
    train, test = stripes(96, 14), stripes(40, 14, seed=1)
    for name in ("first", "again"):
        train_node(node_run(), train, test, COMPUTE, "cpu", tmp_path / name)
    train_node(node_run(seed=1), train, test, COMPUTE, "cpu", tmp_path / "other")
    first, again, other = (digest(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert first["last.safetensors"] != other["last.safetensors"]
    rows = [line.split("\t") for line in (tmp_path / "first" / "history.tsv").read_text().splitlines()]
    assert float(rows[2][rows[0].index("test_accuracy")]) > 95
    assert read_run(tmp_path / "first" / "run.json", NodeRun)[0] == node_run()


def test_the_plateau_schedule_divides_the_rate_by_ten(tmp_path: Path):
    train, test = stripes(48, 14), stripes(40, 14, seed=1)
    run = node_run(epochs=7, schedule="plateau", patience=1, learning_rate=0.05)
    train_node(run, train, test, COMPUTE, "cpu", tmp_path)
    rates = [float(line.split("\t")[1]) for line in (tmp_path / "history.tsv").read_text().splitlines()[1:]]
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
    reason = train_node(run, stripes(96, 14), stripes(40, 14), COMPUTE, "cpu", tmp_path)
    assert reason is not None
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert re.search(says, failure["reason"])
    assert failure["reason"] == reason
    assert failure["epoch"] >= 1
    assert 0 <= failure["step"] <= 2 * 6
    assert not (tmp_path / "predictions.safetensors").exists()
    record = evaluate(tmp_path)
    assert isinstance(record, Failure)
    assert (record.epoch, record.step) == (failure["epoch"], failure["step"])


def test_a_completed_run_has_evaluations_and_time_awareness(tmp_path: Path):
    run = node_run()
    run = run.model_copy(update={"network": run.network.model_copy(update={"gradient": "adjoint"})})
    assert train_node(run, stripes(96, 14), stripes(40, 14, seed=1), COMPUTE, "cpu", tmp_path) is None
    record = evaluate(tmp_path)
    assert isinstance(record, NodeRecord)
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
    train_node(run, stripes(96, 14), stripes(40, 14, seed=1), COMPUTE, "cpu", tmp_path)
    record = evaluate(tmp_path)
    assert isinstance(record, NodeRecord)
    assert (record.nfe, record.nfe_train, record.nfe_backward, record.change) == (None,) * 4
    assert record.accuracy > 90


def test_the_direct_gradient_has_no_backward_evaluations_and_learns_as_well(tmp_path: Path):
    run = node_run()
    run = run.model_copy(update={"network": run.network.model_copy(update={"gradient": "direct"})})
    train_node(run, stripes(96, 14), stripes(40, 14, seed=1), COMPUTE, "cpu", tmp_path)
    record = evaluate(tmp_path)
    assert isinstance(record, NodeRecord)
    assert record.nfe_backward is None
    assert record.accuracy > 95


GOLDEN = {  # losses of the first five steps on the digits
    ("native", "adjoint"): [2.337670, 2.304983, 2.261018, 2.199006, 2.171928],
    ("native", "direct"): [2.337670, 2.305304, 2.261219, 2.209155, 2.177154],
    ("torchdiffeq", "adjoint"): [2.337670, 2.304978, 2.261156, 2.197780, 2.168048],
}


@pytest.mark.parametrize(("implementation", "gradient"), list(GOLDEN))
def test_golden_loss_trace(implementation: str, gradient: str):
    """Pins the numerics of the NODE study: a change of code that moves these changed the training.

    Rounding alone (the number of threads) moves the fifth by 2e-4 of itself: ReLU makes steps jump.
    """
    digits, _ = fetch_dataset(find_dataset(load_data_spec(ROOT), "digits").source, 10, {}, ROOT)
    train = Split(resize_images(digits.images, 12), digits.labels, digits.classes)
    run = resolve_node_run(load_node_spec(ROOT), "digits", "baseline", 0)
    fields = {"implementation": implementation, "gradient": gradient}
    run = run.model_copy(update={"network": run.network.model_copy(update=fields)})
    trainer = NodeTrainer(run, train, COMPUTE, "cpu")
    tally, losses = trainer.begin_epoch(1), []
    for batch, _ in zip(trainer.order(1), range(5), strict=False):
        before = tally.loss.item()
        trainer.step(batch, tally)
        losses.append((tally.loss.item() - before) / len(batch))
    assert losses == pytest.approx(GOLDEN[implementation, gradient], rel=1e-3)


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_ode_function_trains_the_same(tmp_path: Path):
    """Same losses up to rounding; the compiler may reorder sums."""
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    train, losses = stripes(32, 14), {}
    for compiled in (False, True):
        trainer = NodeTrainer(node_run(), train, COMPUTE.model_copy(update={"compile": compiled}), "cpu")
        tally, losses[compiled] = trainer.begin_epoch(1), []
        for batch in trainer.order(1):
            trainer.step(batch, tally)
            losses[compiled].append(tally.loss.item())
        # That the compiler was at work at all, and only when asked: equal losses alone would not show it.
        assert bool(torch._dynamo.utils.counters["stats"]["unique_graphs"]) == compiled
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)


def test_bfloat16_trains_the_node_study(tmp_path: Path):
    compute = COMPUTE.model_copy(update={"precision": "bfloat16"})
    assert train_node(node_run(), stripes(96, 14), stripes(40, 14, seed=1), compute, "cpu", tmp_path / "node") is None


@pytest.mark.parametrize(("dataset", "classes", "params"), [("cifar10", 10, 2_023_562), ("cifar100", 100, 2_046_692)])
def test_a_full_size_epoch_on_an_archive_in_cifars_format(dataset: str, classes: int, params: int, tmp_path: Path):
    """C = 256 on colour images with the paper's recipe, augmentation included."""
    path = tmp_path / "cifar.tar.gz"
    train, test = fetch_from(path, cifar_archive(path, classes, each=2), classes)
    run = resolve_node_run(load_node_spec(ROOT), dataset, "baseline", 0)
    run = run.model_copy(update={"training": run.training.model_copy(update={"epochs": 1, "batch_size": 4})})
    assert train_node(run, train, test, COMPUTE, "cpu", tmp_path / "run") is None
    record = evaluate(tmp_path / "run")
    assert isinstance(record, NodeRecord)
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
