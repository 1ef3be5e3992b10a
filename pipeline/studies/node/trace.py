"""The golden trace of a NODE arm: a digest of two training steps, on the CPU, on images of its own."""

import numpy as np
import torch

from pipeline.data.arrays import Split
from pipeline.run.outputs import digest_tensors
from pipeline.schema.compute import Compute
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.trainer import NodeTrainer

_IMAGES, _CLASSES, _STEPS = 4, 10, 2


def trace_node(run: NodeRun) -> str:
    """What the arm's code computes: weights and predictions after two steps, or how these fail.

    It draws from the run's seed and touches no other random numbers; a fraction of a second for the digits' networks.
    """
    training, channels = run.training, len(run.training.mean)
    generator = np.random.default_rng(0)
    size = (_IMAGES, channels, training.image_size, training.image_size)
    images = generator.integers(0, 256, size, dtype=np.uint8)
    split = Split(images, np.arange(_IMAGES, dtype=np.int64) % _CLASSES, _CLASSES)
    budget = training.model_copy(update={"batch_size": _IMAGES, "epochs": _STEPS})
    trainer = NodeTrainer(run.model_copy(update={"training": budget}), split, Compute(device="cpu"), "cpu")
    tally = trainer.begin_epoch()
    try:
        for step in range(_STEPS):
            trainer.step(step, torch.arange(_IMAGES), tally)
        predictions = trainer.predict_all(trainer.normalise(images))
    except ArithmeticError as error:  # the solver gave up, as it may of so wild an arm: that is a trace, too
        return f"{type(error).__name__}: {error}"
    return digest_tensors({**trainer.list_state(), "logits": predictions.logits, "nfe": predictions.nfe})
