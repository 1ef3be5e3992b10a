"""Small trainings of both studies."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from problems import ddpm_network, node_network, resolve

from pipeline.data.arrays import Split
from pipeline.run.checkpoint import Checkpoint
from pipeline.schema.compute import Compute
from pipeline.schema.resolved import describe_run
from pipeline.studies.ddpm.study import DdpmRun
from pipeline.studies.ddpm.train import train_ddpm
from pipeline.studies.node.evaluate import evaluate_node
from pipeline.studies.node.study import NodeRecord, NodeRun
from pipeline.studies.node.train import train_node

COMPUTE = Compute(
    device="cpu", precision="float32", tf32=False, compile=False, deterministic=True, portable=False, threads=1
)


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
    run = resolve("node", seed=seed)
    recipe = {"image_size": 14, "epochs": epochs, "batch_size": 16, "learning_rate": 0.15, **training}
    budget = run.training.model_copy(update=recipe)
    return run.model_copy(update={"network": node_network(channels=8, stem_channels=8, groups=2), "training": budget})


def ddpm_run(seed: int = 0, fields: dict[str, Any] | None = None, **training: object) -> DdpmRun:
    run = resolve("ddpm", arm="position=mlp", seed=seed)
    budget = {"steps": 3, "batch_size": 8, "learning_rate": 4e-3, "warmup": 2, "flip": True, "snapshot_every": 2}
    budget |= training
    network = ddpm_network(**{"channels": 4, "groups": 2, "dropout": 0.1, "position": "mlp", **(fields or {})})
    return run.model_copy(update={"network": network, "training": run.training.model_copy(update=budget)})


def make_checkpoint(folder: Path, minutes: float = 5.0, fingerprint: str = "this", patience: float = 0.0) -> Checkpoint:
    return Checkpoint(folder, fingerprint, minutes, patience)


def train_node_run(
    run: NodeRun, out: Path, compute: Compute = COMPUTE, minutes: float = 5.0, images: int = 90
) -> str | None:
    """Train on stripes; an unfinished training of the same run goes on."""
    checkpoint = make_checkpoint(out.with_name(out.name + ".checkpoint"), minutes)
    size, channels = run.training.image_size, len(run.training.mean)
    train, test = stripes(images, size, channels), stripes(40, size, channels, seed=1)
    return train_node(run, train, test, compute, "cpu", out, checkpoint, describe_run(run, compute))


def evaluate_node_run(run: NodeRun, folder: Path, compute: Compute = COMPUTE) -> NodeRecord:
    """The record of what `train_node_run` trained."""
    return evaluate_node(run, folder, stripes(40, run.training.image_size, len(run.training.mean), 1), compute, "cpu")


def train_ddpm_run(
    run: DdpmRun, out: Path, count: int = 20, compute: Compute = COMPUTE, minutes: float = 5.0, channels: int = 1
) -> str | None:
    """Train on stripes; an unfinished training of the same run goes on."""
    checkpoint = make_checkpoint(out.with_name(out.name + ".checkpoint"), minutes)
    train = stripes(count, run.training.image_size, channels)
    return train_ddpm(run, train, compute, "cpu", out, checkpoint, describe_run(run, compute))


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
