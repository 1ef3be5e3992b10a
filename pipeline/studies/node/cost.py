"""What a training of the study `node` costs, and how large its network is."""

import math

import torch

from pipeline.metrics.bench import Bench, Cost, draw_split
from pipeline.schema.project import Project
from pipeline.schema.study import Step
from pipeline.studies.node.network import NodeClassifier
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.trainer import NodeTrainer

STEPS: tuple[Step, ...] = ("train",)
"""The steps that are priced."""
NOTE = "node: as many function evaluations (NFE) as at initialisation; training changes them."
"""What the price takes for granted."""
_RATE = 1e-12  # leaves the network at its initialisation, so that its NFE stay those of the first step


def price(project: Project, run: NodeRun, step: Step, bench: Bench, images: tuple[int, int]) -> Cost:
    """One training: its optimiser steps, and a pass over the test split each epoch.

    Args:
        images: of the training and the test split.

    Raises:
        SolveError: the first step fails already.
    """
    dataset, training = project.data.datasets[run.case], run.training
    train_images, test_images = images
    batch_size = min(training.batch_size, train_images)
    split = draw_split(dataset, training.image_size, batch_size)
    frozen = run.model_copy(update={"training": training.model_copy(update={"learning_rate": _RATE})})
    trainer = NodeTrainer(frozen, split, bench.compute, bench.device)
    tally, indices = trainer.begin_epoch(), torch.arange(batch_size, device=bench.device)
    one = bench.measure(lambda count: trainer.step(0, indices[:count], tally), batch_size)
    inputs = trainer.normalise(split.images)
    test = bench.measure(lambda count: trainer.predict(inputs[:count]), batch_size)
    steps, tests = math.ceil(train_images / batch_size), math.ceil(test_images / batch_size)
    # FLOPs follow the images, seconds the batches: a last, smaller batch takes about as long as a whole one.
    epoch = one.repeat(train_images / batch_size, steps) + test.repeat(test_images / batch_size, tests)
    return epoch.repeat(training.epochs, training.epochs)


def count_params(project: Project, run: NodeRun) -> int:
    """Number of trained parameters of the network, built without memory for its weights."""
    dataset = project.data.datasets[run.case]
    with torch.device("meta" if run.network.function is None else "cpu"):
        network = NodeClassifier(run.network, dataset.channels, run.training.image_size, dataset.classes)
    return sum(value.numel() for value in network.parameters())
