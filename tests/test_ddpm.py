"""The DDPM study's training and sampling: its recipe, same bytes, resuming, workers."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from problems import ROOT, later, resolve
from safetensors.torch import load_file
from torch import nn
from trainings import COMPUTE, ddpm_run, digest, make_checkpoint, stripes, train_ddpm_run
from workspace import make_reduced

from pipeline.compute.seeding import derive_seed, seed_global
from pipeline.data.arrays import Split, read_arrays, write_arrays
from pipeline.data.fetch import fetch_dataset
from pipeline.diffusion.noise import draw_noise
from pipeline.diffusion.sample import quantise_images
from pipeline.run.outputs import load_weights
from pipeline.run.workers import Worker
from pipeline.schema.compute import Compute
from pipeline.schema.data import find_dataset, load_data_spec
from pipeline.schema.diffusion import Sampling
from pipeline.schema.resolved import read_run
from pipeline.studies.ddpm.ema import ExponentialMovingAverage
from pipeline.studies.ddpm.level_awareness import measure_level_awareness
from pipeline.studies.ddpm.sampler import DdpmSampler, sample_ddpm
from pipeline.studies.ddpm.study import DdpmRun
from pipeline.studies.ddpm.trainer import DdpmTrainer
from pipeline.studies.ddpm.unet import make_unet


def sampling(**fields: object) -> Sampling:
    base = later("digits", "sampling")
    return base.model_copy(update={"images": 5, "sets": 2, "first_snapshot": 2, "batch_size": 3, "steps": 2, **fields})


def sample(folder: Path, out: Path, plan: Sampling) -> None:
    run, _ = read_run(folder / "run.json", DdpmRun)
    checkpoint = make_checkpoint(out.with_name(out.name + ".checkpoint"), minutes=0)
    sample_ddpm(run, folder, plan, COMPUTE, "cpu", out, [checkpoint], Worker(), "golden")


def losses(run: DdpmRun, split: Split, steps: int, compute: Compute = COMPUTE) -> list[float]:
    trainer = DdpmTrainer(run, split, compute, "cpu")
    order = trainer.order(0).split(run.training.batch_size)
    return [trainer.step(step, order[step]).item() for step in range(steps)]


# ---- The recipe --------------------------------------------------------------------------------------------


def test_the_average_follows_its_formula():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    average = ExponentialMovingAverage(network, 0.25)
    expected = 1.0
    for n, value in enumerate([2.0, 3.0, 5.0], start=1):
        nn.init.constant_(network.weight, value)
        average.update()
        decay = min(0.25, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
        assert average.averages["weight"].item() == pytest.approx(expected)
    assert (1 + 1) / (10 + 1) < 0.25 < (1 + 3) / (10 + 3)  # both sides of the minimum were met


def test_the_first_step_has_rate_zero(tmp_path: Path):
    """The base code's warm-up: after one step the weights are those of the initialisation, after two they are not."""
    weights = []
    for steps in (1, 2):
        train_ddpm_run(ddpm_run(steps=steps), tmp_path / str(steps))
        weights.append(load_file(tmp_path / str(steps) / "last.safetensors"))
    seed_global(0, "initialisation")
    initial = dict(make_unet(ddpm_run(), 1).named_parameters())
    assert all(torch.equal(weights[0][name], value) for name, value in initial.items())
    assert not all(torch.equal(weights[1][name], value) for name, value in initial.items())


def test_a_step_is_adam_on_the_clipped_gradient():
    """By hand: the rate of the warm-up, the gradient clipped to a global norm, Adam's second step."""
    run = ddpm_run(fields={"dropout": 0.0}, clip=0.01, warmup=4, learning_rate=0.1, fused=False)
    trainer = DdpmTrainer(run, stripes(20, 8), COMPUTE, "cpu")
    first, second = trainer.order(0).split(8)[:2]
    trainer.step(0, first)
    name = "down.0.0.conv1.weight"
    parameter = dict(trainer.network.named_parameters())[name]
    state = {key: value.clone() for key, value in trainer.optimiser.state[parameter].items()}
    before = parameter.detach().clone()
    trainer.step(1, second)
    gradients = [value.grad for value in trainer.network.parameters()]
    assert math.sqrt(sum(float(grad.square().sum()) for grad in gradients)) == pytest.approx(0.01, rel=1e-4)
    gradient = parameter.grad
    mean = 0.9 * state["exp_avg"] + 0.1 * gradient
    square = 0.999 * state["exp_avg_sq"] + 0.001 * gradient.square()
    expected = before - 0.1 * (1 / 4) * (mean / (1 - 0.9**2)) / ((square / (1 - 0.999**2)).sqrt() + 1e-8)
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-6)


def test_fused_and_channels_last_change_rounding_alone():
    plain = ddpm_run(fused=False, channels_last=False)
    fast = ddpm_run(fused=True, channels_last=True)
    assert losses(fast, stripes(40, 8), 4) == pytest.approx(losses(plain, stripes(40, 8), 4), rel=1e-3)


GOLDEN = {  # losses of steps 0 to 4 on the digits
    "baseline": [1.009581, 0.989732, 0.983287, 0.989527, 0.963543],
    "position=mlp,zero_bias=conv,groups=1": [1.009574, 0.989725, 0.983383, 0.989632, 0.964240],
}


@pytest.mark.parametrize("arm", list(GOLDEN))
def test_golden_loss_trace(arm: str):
    """Pins the numerics of the DDPM study: a change of code that moves these changed the training."""
    digits, _ = fetch_dataset(find_dataset(load_data_spec(ROOT), "digits"), {}, ROOT)
    run = resolve("ddpm", "digits", arm, 0)
    fields = {"channels": 16, "groups": 1 if "groups=1" in arm else 4, "outer_groups": 4}
    recipe = {"batch_size": 128, "learning_rate": 4e-3, "warmup": 50}  # not the case's own, which may change
    run = run.model_copy(update={
        "network": run.network.model_copy(update=fields), "training": run.training.model_copy(update=recipe),
    })  # fmt: skip
    assert losses(run, digits, 5) == pytest.approx(GOLDEN[arm], rel=1e-4)


def test_a_batch_larger_than_the_split_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="batch_size = 8: the training split has 5 images"):
        train_ddpm_run(ddpm_run(), tmp_path / "run", count=5)


def test_a_batch_that_the_gpus_cannot_share_is_refused():
    with pytest.raises(ValueError, match="batch_size = 8 is not divisible by 3"):
        DdpmTrainer(ddpm_run(), stripes(20, 8), COMPUTE, "cpu", Worker(0, 3))


@pytest.mark.ci
def test_one_step_of_the_papers_model_at_full_width(tmp_path: Path):
    run = resolve("ddpm", "cifar10", "baseline", 0)
    run = run.model_copy(update={"training": run.training.model_copy(update={"steps": 1, "batch_size": 2})})
    assert train_ddpm_run(run, tmp_path / "run", 2, channels=3) is None
    weights = load_file(tmp_path / "run" / "ema-0000001.safetensors")
    assert sum(value.numel() for value in weights.values()) == 35_218_947


def test_bfloat16_trains(tmp_path: Path):
    compute = COMPUTE.model_copy(update={"precision": "bfloat16"})
    assert train_ddpm_run(ddpm_run(), tmp_path / "run", compute=compute) is None
    exact, rounded = losses(ddpm_run(), stripes(40, 8), 3), losses(ddpm_run(), stripes(40, 8), 3, compute)
    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=0.02)


@pytest.mark.ci
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_unet_trains_the_same():
    """Same losses up to rounding; the compiler may reorder sums."""
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    run = ddpm_run(fields={"dropout": 0.0, "channel_multipliers": [1], "blocks": 1})  # a minute to compile
    plain = losses(run, stripes(40, 8), 2)
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compiled = losses(run, stripes(40, 8), 2, COMPUTE.model_copy(update={"compile": True}))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert compiled == pytest.approx(plain, rel=1e-4)


# ---- What it writes ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_training_and_its_samples_give_the_same_bytes_twice(tmp_path: Path):
    for name, run in (
        ("first", ddpm_run()),
        ("again", ddpm_run()),
        ("seed", ddpm_run(1)),
        ("replicate", ddpm_run(fields={"replicate": 1})),
    ):
        assert train_ddpm_run(run, tmp_path / name) is None
        sample(tmp_path / name, tmp_path / f"{name}.samples", sampling())
    files = {name: digest(tmp_path / name) for name in ("first", "again", "seed", "replicate")}
    assert files["first"] == files["again"]
    assert digest(tmp_path / "first.samples") == digest(tmp_path / "again.samples")
    for other in ("seed", "replicate"):
        assert files[other]["last.safetensors"] != files["first"]["last.safetensors"]
    assert set(files["first"]) == {
        "run.json", "trace.json", "history.tsv", "last.safetensors",
        "ema-0000002.safetensors", "ema-0000003.safetensors",
    }  # fmt: skip
    assert not (tmp_path / "first.checkpoint").exists()


def test_sample_sets_are_disjoint_and_a_snapshot_has_the_first_sets_noise(tmp_path: Path):
    train_ddpm_run(ddpm_run(), tmp_path / "run")
    sample(tmp_path / "run", tmp_path / "out", sampling())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "set-0.safetensors", "set-1.safetensors", "snapshot-0000002.safetensors", "samples.json",
        "trajectory.safetensors",
    }  # fmt: skip
    sets = [read_arrays(tmp_path / "out" / f"set-{index}.safetensors")["images"] for index in (0, 1)]
    assert all(images.shape == (5, 1, 8, 8) and images.dtype == np.uint8 for images in sets)
    both = np.concatenate(sets).reshape(10, -1)
    assert len(np.unique(both, axis=0)) == 10
    snapshot = read_arrays(tmp_path / "out" / "snapshot-0000002.safetensors")["images"]
    first, second = (np.abs(snapshot.astype(int) - images).mean() for images in sets)
    assert first < second / 2
    written = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert (written["steps"], written["snapshots"], written["trace"]) == (3, [2], "golden")
    sample(tmp_path / "run", tmp_path / "last", sampling(first_snapshot=None))
    assert not (tmp_path / "last" / "snapshot-0000002.safetensors").exists()


@pytest.mark.slow
def test_images_do_not_depend_on_how_they_are_batched(tmp_path: Path):
    train_ddpm_run(ddpm_run(), tmp_path / "run")
    run, _ = read_run(tmp_path / "run" / "run.json", DdpmRun)
    sampler = DdpmSampler(run, sampling(steps=20), 1, COMPUTE, "cpu")
    load_weights(tmp_path / "run" / "ema-0000003.safetensors", sampler.network)
    together = sampler.sample(torch.arange(12)).int()
    apart = torch.cat([sampler.sample(torch.tensor([number])) for number in range(12)]).int()
    backwards = sampler.sample(torch.arange(11, -1, -1)).flip(0).int()
    for other in (
        apart,
        backwards,
    ):  # sums in another order: a value on the border between two grey levels may cross it
        assert (other - together).abs().max() <= 1
        assert (other != together).float().mean() < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_trajectory_is_that_of_the_first_images_of_the_first_set(channels_last: bool, tmp_path: Path):
    train_ddpm_run(ddpm_run(channels_last=channels_last), tmp_path / "run")
    for batch_size, images in ((3, 3), (5, 4)):  # a batch of three has no fourth image
        sample(tmp_path / "run", tmp_path / "out", sampling(steps=20, batch_size=batch_size))
        found = read_arrays(tmp_path / "out" / "trajectory.safetensors")
        assert found["levels"].tolist() == [999, 894, 789, 631, 526, 421, 315, 158, 53, -1]
        assert found["x"].shape == found["x0"].shape == (10, images, 1, 8, 8)
        first = read_arrays(tmp_path / "out" / "set-0.safetensors")["images"][:images]
        for name in ("x", "x0"):
            assert found[name].dtype == np.uint8
            assert np.array_equal(found[name][-1], first)
        noise = draw_noise(derive_seed(0, "sampling"), torch.arange(images), 0, (1, 8, 8))
        assert np.array_equal(found["x"][0], quantise_images(noise, "truncate").numpy())
        assert not np.array_equal(found["x0"][0], found["x"][0])


def test_models_have_trajectories_from_the_same_noise(tmp_path: Path):
    starts = []
    for name, run in (("a", ddpm_run()), ("b", ddpm_run(fields={"position": "none"})), ("c", ddpm_run(1))):
        train_ddpm_run(run, tmp_path / name)
        sample(tmp_path / name, tmp_path / f"{name}.samples", sampling())
        starts.append(read_arrays(tmp_path / f"{name}.samples" / "trajectory.safetensors")["x"][0])
    assert np.array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])  # of another seed


def test_more_gpus_than_images_are_refused(tmp_path: Path):
    train_ddpm_run(ddpm_run(), tmp_path / "run")
    run, _ = read_run(tmp_path / "run" / "run.json", DdpmRun)
    with pytest.raises(ValueError, match=r"sampling\.images = 5: 6 GPUs cannot share them"):
        sample_ddpm(run, tmp_path / "run", sampling(), COMPUTE, "cpu", tmp_path / "out", [], Worker(0, 6), "")


@pytest.mark.ci
def test_a_failed_training_has_empty_pictures(tmp_path: Path):
    work = make_reduced(tmp_path / "project")
    folder = work.root / "runs/ddpm/digits/baseline/0"
    folder.mkdir(parents=True)
    (folder / "failure.json").write_text('{"epoch": 1, "step": 4, "reason": "diverged"}')
    work.run("python", "-m", "stages.sample", "digits", "baseline", "0")
    assert [path.name for path in (work.root / "samples/ddpm/digits/baseline/0").iterdir()] == ["failure.json"]
    for kind in ("previews", "trajectories"):
        with Image.open(work.root / "reports" / kind / "ddpm/digits/baseline/0.png") as picture:
            assert (picture.size, picture.getextrema()) == ((40, 40), (128, 128))


def test_a_diverged_training_is_recorded(tmp_path: Path):
    reason = train_ddpm_run(ddpm_run(steps=40, learning_rate=1e30, warmup=0), tmp_path / "run")
    assert reason is not None
    assert "the training diverged" in reason
    failure = json.loads((tmp_path / "run" / "failure.json").read_text())
    assert failure["reason"] == reason
    assert 1 <= failure["step"] <= 40
    assert failure["epoch"] == (failure["step"] - 1) // 2 + 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "run.json", "trace.json", "history.tsv", "failure.json",
    }  # fmt: skip


@pytest.mark.parametrize(("groups", "position", "position_mean", "expected"), [
    (1, "none", False, (0.1, 2)),
    (4, "none", False, (0, 1e-12)),  # C / G = 1: the offset of a channel cancels, equation 5
    (4, "mlp", False, (0.1, 2)),  # what varies over pixels does not
    (4, "mlp", True, (0, 1e-12)),  # and without that freedom it does again
])  # fmt: skip
def test_level_awareness_vanishes_where_a_group_is_a_channel(groups, position, position_mean, expected):
    fields = {"channels": 4, "channel_multipliers": [1], "attention_sizes": [8], "groups": groups, "dropout": 0.0}
    run = ddpm_run(fields={**fields, "position": position, "position_mean": position_mean})
    torch.manual_seed(0)
    network = make_unet(run, 1).double().eval()
    x = torch.randn(16, 1, 8, 8, dtype=torch.float64)
    awareness = measure_level_awareness(network, x, 500)
    assert awareness.levels == [250, 500, 749, 999]
    assert len(awareness.block_change) == len(awareness.block_share) == len(network.list_blocks())
    low, high = expected
    for change, share in zip(awareness.block_change, awareness.block_share, strict=True):
        assert low <= max(change) <= high
        assert share <= high
    assert network.list_blocks()[0]._forward_pre_hooks == {}


# ---- Resuming ----------------------------------------------------------------------------------------------


class KilledError(Exception):
    """The process ends here."""


@pytest.mark.slow
@pytest.mark.parametrize("kills", [[1], [2], [3], [5], [6], [1, 2, 4, 6], [3, 3]])
def test_a_killed_training_ends_with_the_same_bytes(kills: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed in the middle of a step, with the state of the step before on the disk; snapshots at 2, 4, 6."""
    run = ddpm_run(steps=7)
    assert train_ddpm_run(run, tmp_path / "unbroken") is None
    step = DdpmTrainer.step
    for kill in kills:
        taken = []

        def killed(self: DdpmTrainer, number: int, batch: torch.Tensor, kill: int = kill, taken: list = taken):
            if number == kill:
                raise KilledError
            taken.append(number)
            return step(self, number, batch)

        monkeypatch.setattr(DdpmTrainer, "step", killed)
        with pytest.raises(KilledError):
            train_ddpm_run(run, tmp_path / "broken", minutes=0)
        assert taken == list(range(taken[0], kill)) if taken else True
    monkeypatch.setattr(DdpmTrainer, "step", step)
    again = []
    monkeypatch.setattr(
        DdpmTrainer, "step", lambda self, number, batch: again.append(number) or step(self, number, batch)
    )
    assert train_ddpm_run(run, tmp_path / "broken", minutes=0) is None
    assert again == [*range(kills[-1], 7), 0, 1]  # nothing is trained twice; the golden trace takes two steps
    assert digest(tmp_path / "broken") == digest(tmp_path / "unbroken")
    assert not (tmp_path / "broken.checkpoint").exists()


def test_a_kill_between_saves_costs_the_steps_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, step = ddpm_run(steps=5), DdpmTrainer.step
    train_ddpm_run(run, tmp_path / "unbroken")

    def killed(self: DdpmTrainer, number: int, batch: torch.Tensor):
        if number == 3:
            raise KilledError
        return step(self, number, batch)

    monkeypatch.setattr(DdpmTrainer, "step", killed)
    with pytest.raises(KilledError):
        train_ddpm_run(run, tmp_path / "broken")  # five minutes have not passed: nothing was saved
    monkeypatch.setattr(DdpmTrainer, "step", step)
    train_ddpm_run(run, tmp_path / "broken")
    assert digest(tmp_path / "broken") == digest(tmp_path / "unbroken")


def test_a_killed_sampling_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train_ddpm_run(ddpm_run(), tmp_path / "run")
    sample(tmp_path / "run", tmp_path / "unbroken", sampling())
    draw = DdpmSampler.sample
    for kill in (1, 1, 3):  # batches until the end, in three attempts
        left = [kill]

        def killed(self: DdpmSampler, *arguments: object, left: list[int] = left):
            left[0] -= 1
            if left[0] < 0:
                raise KilledError
            return draw(self, *arguments)

        monkeypatch.setattr(DdpmSampler, "sample", killed)
        with pytest.raises(KilledError):
            sample(tmp_path / "run", tmp_path / "broken", sampling())
    left[0] = 99
    sample(tmp_path / "run", tmp_path / "broken", sampling())
    assert left[0] == 99 - 1  # 2 + 2 + 2 batches, five of them done before
    assert digest(tmp_path / "broken") == digest(tmp_path / "unbroken")


def test_a_sampling_killed_at_its_trajectory_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Half of the file is written, and the state is that of the batch before."""
    train_ddpm_run(ddpm_run(), tmp_path / "run")
    sample(tmp_path / "run", tmp_path / "unbroken", sampling())

    def killed(path: Path, arrays: dict) -> None:
        if path.name == "trajectory.safetensors":
            path.write_bytes(b"half")
            raise KilledError
        write_arrays(path, arrays)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.studies.ddpm.sampler.write_arrays", killed)
        with pytest.raises(KilledError):
            sample(tmp_path / "run", tmp_path / "broken", sampling())
    sample(tmp_path / "run", tmp_path / "broken", sampling())
    assert digest(tmp_path / "broken") == digest(tmp_path / "unbroken")


@pytest.mark.ci
def test_a_stage_that_is_killed_or_told_to_end_goes_on_where_it_was(tmp_path: Path):
    work = make_reduced(tmp_path / "project")
    ddpm = work.read("specs/ddpm/study.yaml")
    ddpm["cases"]["digits"]["training"] |= {"steps": 150, "snapshot_every": 60}
    work.write("specs/ddpm/study.yaml", ddpm)
    work.run("python", "-m", "stages.fetch", "ddpm", "digits")
    work.run("python", "-m", "stages.train_ddpm", "digits", "baseline", "0")
    out, state = (
        work.root / "runs/ddpm/digits/baseline/0",
        work.root / "checkpoints/ddpm/digits/baseline/0/state.safetensors",
    )
    expected = digest(out)
    shutil.rmtree(out)
    params = work.read("params.yaml")
    params["resources"]["checkpoint_minutes"] = 0
    work.write("params.yaml", params)
    command = [sys.executable, "-m", "stages.train_ddpm", "digits", "baseline", "0"]
    steps = []
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)):
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = subprocess.Popen(command, cwd=work.root, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not state.exists() or state.stat().st_mtime_ns == before:
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait() == status
        assert not out.exists()
        steps.append(load_file(state)["adam.step.conv_in.bias"].item())
    assert 0 < steps[0] < steps[1] < 150
    work.run("python", "-m", "stages.train_ddpm", "digits", "baseline", "0")
    assert digest(out) == expected
    assert not state.parent.exists()


# ---- Workers -----------------------------------------------------------------------------------------------


@pytest.mark.ci
def test_two_workers_train_and_sample_what_one_does(tmp_path: Path):
    """torchrun and gloo on the CPU: the same losses and weights up to the order of sums."""
    work = make_reduced(tmp_path / "project")
    work.run("python", "-m", "stages.fetch", "ddpm", "digits")
    out, samples = work.root / "runs/ddpm/digits/position=mlp/0", work.root / "samples/ddpm/digits/position=mlp/0"
    results = {}
    for count in (1, 2):
        launch = ["python"] if count == 1 else ["torchrun", "--standalone", "--nproc-per-node=2"]
        for stage in ("stages.train_ddpm", "stages.sample"):
            work.run(*launch, "-m", stage, "digits", "position=mlp", "0", OMP_NUM_THREADS="1")
        history = [line.split("\t")[1] for line in (out / "history.tsv").read_text().splitlines()[1:]]
        weights = load_file(out / "last.safetensors")
        images = {path.name: read_arrays(path)["images"] for path in sorted(samples.glob("s*.safetensors"))}
        assert np.array_equal(read_arrays(samples / "trajectory.safetensors")["x"][-1], images["set-0.safetensors"][:4])
        results[count] = ([float(value) for value in history], weights, images, digest(out).keys())
    (trace, weights, images, files), (trace_of_two, weights_of_two, images_of_two, files_of_two) = (
        results[1],
        results[2],
    )
    assert len(trace) == 6
    assert trace_of_two == pytest.approx(trace, rel=1e-5)
    for name, value in weights.items():
        torch.testing.assert_close(weights_of_two[name], value, rtol=1e-3, atol=1e-4)
    assert files_of_two == files
    assert images.keys() == images_of_two.keys()
    for name, value in images.items():
        assert np.abs(images_of_two[name].astype(int) - value).max() <= 2, name
    left = [path for path in (work.root / "checkpoints").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []
    assert json.loads((work.root / "provenance/ddpm/digits/position=mlp/0.json").read_text())["workers"] == 2


def test_a_share_is_even_and_complete():
    for total in (0, 1, 7, 128):
        for count in (1, 2, 3, 8):
            shares = [Worker(rank, count).share(total) for rank in range(count)]
            assert [number for share in shares for number in range(total)[share]] == list(range(total))
            assert max(share.stop - share.start for share in shares) - min(s.stop - s.start for s in shares) <= 1
