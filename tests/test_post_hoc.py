"""ddpm's arms with ema=power: what a training stores, and averages of other lengths made of it."""

from pathlib import Path

import pytest
import torch
from problems import resolve
from trainings import COMPUTE, ddpm_run, digest, stripes, train_ddpm_run

from pipeline.__main__ import ema
from pipeline.diffusion.power_average import find_exponent, weigh_steps
from pipeline.run.outputs import load_weights, read_weights
from pipeline.schema.base import SpecError
from pipeline.studies.ddpm.post_hoc import average_run, print_average
from pipeline.studies.ddpm.trainer import DdpmTrainer
from pipeline.studies.ddpm.unet import make_unet

STEPS = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run of each kind of average."""
    root = tmp_path_factory.mktemp("project")
    for name, mode in (("ema=power", "power"), ("baseline", "constant")):
        run = ddpm_run(steps=STEPS, snapshot_every=3, ema=mode)
        assert train_ddpm_run(run, root / "runs/ddpm/digits" / name / "0") is None
    (root / "runs/node/digits/baseline/0").mkdir(parents=True)
    (root / "runs/node/digits/baseline/0/run.json").write_text("{}")
    return root


def test_a_training_stores_both_lengths_and_samples_the_greater(root: Path):
    names = set(digest(root / "runs/ddpm/digits/ema=power/0"))
    assert {f"ema-{step:07d}.safetensors" for step in range(3, 25, 3)} <= names
    assert {f"power-0.05-{step:07d}.safetensors" for step in range(3, 25, 3)} <= names
    assert not any(name.startswith("power") for name in digest(root / "runs/ddpm/digits/baseline/0"))


def test_the_averages_are_the_weighted_sums_of_the_weights_of_all_steps(root: Path):
    trainer = DdpmTrainer(ddpm_run(steps=STEPS, snapshot_every=3, ema="power"), stripes(20, 8), COMPUTE, "cpu")
    states, images = [], len(trainer.images)
    for step in range(STEPS):
        epoch, index = divmod(step, images // 8)
        trainer.step(step, trainer.order(epoch)[8 * index : 8 * index + 8])
        states.append({name: value.detach().clone().double() for name, value in trainer.network.named_parameters()})
    folder = root / "runs/ddpm/digits/ema=power/0"
    for length in (0.05, 0.1, 0.2):  # stored, stored, made afterwards
        weights = weigh_steps(STEPS, find_exponent(length))
        made, predicted = average_run(folder, length)
        for name, value in made.items():
            direct = sum(weight * state[name] for weight, state in zip(weights, states, strict=True))
            assert isinstance(direct, torch.Tensor)
            error = (value.double() - direct).norm() / direct.norm().clamp(min=1e-3)
            assert error < (1e-6 if length < 0.2 else max(predicted, 1e-6)), (length, name)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_with_its_averages(tmp_path: Path):
    run = ddpm_run(steps=6, snapshot_every=3, ema="power")
    trainers = [DdpmTrainer(run, stripes(20, 8), COMPUTE, "cpu") for _ in range(2)]
    for step in range(3):
        trainers[0].step(step, torch.arange(8))
    for name, value in trainers[0].list_state().items():
        trainers[1].list_state()[name].copy_(value)
    trainers[1].average.updates = trainers[0].average.updates
    for trainer in trainers:
        trainer.step(3, torch.arange(8))
    first, again = (trainer.list_state() for trainer in trainers)
    assert any(name.startswith("ema-0.05.") for name in first)
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_the_command_writes_weights_that_the_network_loads(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "ema-0.2.safetensors"
    print_average(root, "ddpm/digits/ema=power/0", 0.2, out)
    assert "8 snapshots" in capsys.readouterr().out
    run = ddpm_run(steps=STEPS, snapshot_every=3, ema="power")
    load_weights(out, make_unet(run, 1))
    made = average_run(root / "runs/ddpm/digits/ema=power/0", 0.2)[0]
    assert all(torch.equal(value, made[name]) for name, value in read_weights(out).items())
    with pytest.raises(SpecError, match="is there already"):
        print_average(root, "ddpm/digits/ema=power/0", 0.2, out)


@pytest.mark.parametrize(
    ("name", "length", "says"),
    [
        ("ddpm/digits/baseline/0", 0.05, "ema = constant stores no lengths; an arm with ema=power does"),
        ("node/digits/baseline/0", 0.05, "only runs of ddpm store averages"),
        ("ddpm/digits/groups=1/0", 0.05, "no trained run; a name is STUDY/CASE/ARM/SEED"),
        ("ddpm/digits/ema=power/0", 0.3, r"length = 0\.3: allowed are lengths between 0 and 0\.2887"),
    ],
)
def test_other_runs_and_lengths_are_refused_in_one_line(root: Path, name: str, length: float, says: str):
    with pytest.raises(ValueError, match=says) as refused:
        print_average(root, name, length, Path("unused"))
    assert "\n" not in str(refused.value)


def test_the_command_needs_a_length():
    with pytest.raises(SpecError, match="--length is missing"):
        ema("ddpm/digits/ema=power/0")


def test_a_decay_has_no_effect_on_power_functions():
    with pytest.raises(SpecError, match="ema_decay changes nothing without ema=constant"):
        resolve("ddpm", arm="ema_decay=0.9,ema=power")
    assert resolve("ddpm", arm="ema=power").training.ema == "power"
