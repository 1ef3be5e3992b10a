"""EMA, seeds, and trainings that give the same bytes twice."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import ROOT, ddpm_network, node_network
from torch import nn

from pipeline.data.arrays import Split
from pipeline.schema.compute import Compute
from pipeline.schema.ddpm import DdpmRun, load_ddpm_spec, resolve_ddpm_run
from pipeline.schema.node import NodeRun, load_node_spec, resolve_node_run
from pipeline.training.ddpm import train_ddpm
from pipeline.training.ema import ExponentialMovingAverage
from pipeline.training.node import train_node
from pipeline.training.outputs import read_run
from pipeline.training.sample import sample_ddpm
from pipeline.training.seeding import derive_seed, make_generator

COMPUTE = Compute(device="cpu", precision="float32", threads=1)


def stripes(count: int, size: int, channels: int = 1, seed: int = 0) -> Split:
    """Two classes that a small network tells apart: bright above, or bright below."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 2
    images = generator.integers(0, 60, (count, channels, size, size), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        half = slice(0, size // 2) if label == 0 else slice(size // 2, size)
        image[:, half] += 150
    return Split(images, labels, 2)


def node_run(seed: int = 0, epochs: int = 2, **training: object) -> NodeRun:
    run = resolve_node_run(load_node_spec(ROOT), "digits", "baseline", seed)
    budget = run.training.model_copy(update={"image_size": 14, "epochs": epochs, "batch_size": 16, **training})
    return run.model_copy(update={"network": node_network(channels=8, stem_channels=8, groups=2), "training": budget})


def ddpm_run(seed: int = 0, steps: int = 3) -> DdpmRun:
    run = resolve_ddpm_run(load_ddpm_spec(ROOT), "digits", "position=mlp", seed)
    budget = run.training.model_copy(update={"steps": steps, "batch_size": 8, "warmup": 2, "flip": True})
    network = ddpm_network(channels=4, groups=2, dropout=0.1, position="mlp")
    return run.model_copy(update={"network": network, "training": budget})


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_average_follows_its_formula():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    average = ExponentialMovingAverage(network, 0.25)
    expected = 1.0
    for n, value in enumerate([2.0, 3.0, 5.0], start=1):
        nn.init.constant_(network.weight, value)
        average.update(network)
        decay = min(0.25, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
        assert average.averages["weight"].item() == pytest.approx(expected)
    assert (1 + 1) / (10 + 1) < 0.25 < (1 + 3) / (10 + 3)  # both sides of the minimum were met


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


def test_a_training_that_diverges_says_so(tmp_path: Path):
    with pytest.raises(ValueError, match=r"diverged|gave up"):
        train_node(node_run(learning_rate=1e12), stripes(96, 14), stripes(40, 14), COMPUTE, "cpu", tmp_path)


def test_a_ddpm_training_and_its_samples_give_the_same_bytes_twice(tmp_path: Path):
    sampling = load_ddpm_spec(ROOT).datasets["digits"].sampling
    sampling = sampling.model_copy(update={"images": 5, "batch_size": 3, "steps": 2})
    samples = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        train_ddpm(ddpm_run(seed), stripes(20, 8), COMPUTE, "cpu", tmp_path / name)
        samples[name] = sample_ddpm(tmp_path / name, sampling, 1, COMPUTE, "cpu")
    assert digest(tmp_path / "first") == digest(tmp_path / "again")
    assert samples["first"].shape == (5, 1, 8, 8)
    assert np.array_equal(samples["first"], samples["again"])
    assert not np.array_equal(samples["first"], samples["other"])


def test_the_first_ddpm_step_has_rate_zero(tmp_path: Path):
    """The base code's warm-up: after one step the weights are those of the initialisation, after two they are not."""
    from safetensors.torch import load_file

    weights = []
    for steps in (1, 2):
        train_ddpm(ddpm_run(steps=steps), stripes(20, 8), COMPUTE, "cpu", tmp_path / str(steps))
        weights.append(load_file(tmp_path / str(steps) / "last.safetensors"))
    from pipeline.networks.unet import UNet
    from pipeline.training.seeding import seed_global

    seed_global(0, "initialisation")
    initial = dict(UNet(ddpm_run().network, 1, 8).named_parameters())
    assert all(torch.equal(weights[0][name], value) for name, value in initial.items())
    assert not all(torch.equal(weights[1][name], value) for name, value in initial.items())


def test_a_batch_larger_than_the_split_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="batch_size = 8: the training split has 5 images"):
        train_ddpm(ddpm_run(), stripes(5, 8), COMPUTE, "cpu", tmp_path)


def test_bfloat16_trains_both_studies(tmp_path: Path):
    compute = COMPUTE.model_copy(update={"precision": "bfloat16"})
    train_node(node_run(), stripes(96, 14), stripes(40, 14, seed=1), compute, "cpu", tmp_path / "node")
    train_ddpm(ddpm_run(), stripes(20, 8), compute, "cpu", tmp_path / "ddpm")


@pytest.mark.parametrize("dataset", ["cifar10"])
def test_one_step_of_each_papers_run_at_full_width(dataset: str, tmp_path: Path):
    """The networks of the paper's scale take a step on colour images; two images, so that it takes seconds."""
    node = resolve_node_run(load_node_spec(ROOT), dataset, "baseline", 0)
    node = node.model_copy(update={"training": node.training.model_copy(update={"epochs": 1, "batch_size": 2})})
    train_node(node, stripes(2, 32, 3), stripes(2, 32, 3), COMPUTE, "cpu", tmp_path / "node")
    assert read_run(tmp_path / "node" / "run.json", NodeRun)[1] == 2_023_562 - 8 * 257  # two classes here, not ten
    ddpm = resolve_ddpm_run(load_ddpm_spec(ROOT), dataset, "baseline", 0)
    ddpm = ddpm.model_copy(update={"training": ddpm.training.model_copy(update={"steps": 1, "batch_size": 2})})
    train_ddpm(ddpm, stripes(2, 32, 3), COMPUTE, "cpu", tmp_path / "ddpm")
    assert read_run(tmp_path / "ddpm" / "run.json", DdpmRun)[1] == 35_218_947
