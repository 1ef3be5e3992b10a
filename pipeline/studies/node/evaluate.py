"""Evaluates a trained NODE classifier. It loads weights and trains nothing."""

from pathlib import Path

import torch

from pipeline.data.arrays import Split
from pipeline.run.outputs import load_weights
from pipeline.schema.compute import Compute
from pipeline.schema.curve import read_history
from pipeline.studies.node.predict import NodePredictor
from pipeline.studies.node.record import Evaluated, make_node_record
from pipeline.studies.node.study import NodeRecord, NodeRun, TimeAwareness

FROZEN_TIME = 0.5
"""The time of the frozen evaluation: the middle of the solve."""


def _measure_awareness(predictor: NodePredictor, images: torch.Tensor) -> TimeAwareness | None:
    found = predictor.measure_awareness(images)
    return TimeAwareness(**vars(found)) if found is not None else None


def evaluate_node(run: NodeRun, folder: Path, test: Split, compute: Compute, device: str) -> NodeRecord:
    """Evaluate the weights of the best and the last epoch, and time-awareness before and after training.

    The best weights are evaluated once more with the time frozen at 1/2.

    Args:
        folder: runs/node/CASE/ARM/SEED, as `train_node` wrote it.
        test: the test split.
    """
    channels, size = test.images.shape[1], test.images.shape[2]
    predictor = NodePredictor(run, channels, size, test.classes, compute, device)
    images = predictor.normalise(test.images)
    initial = _measure_awareness(predictor, images)
    load_weights(folder / "best.safetensors", predictor.network)
    best = predictor.predict_all(images)
    frozen = predictor.predict_all(images, FROZEN_TIME) if predictor.network.field is not None else None
    load_weights(folder / "last.safetensors", predictor.network)
    last = predictor.predict_all(images)
    num_params = sum(value.numel() for value in predictor.network.parameters())
    found = Evaluated(best, last, frozen, initial, _measure_awareness(predictor, images), num_params)
    return make_node_record(run, compute, found, test.labels, read_history(folder / "history.tsv"))
