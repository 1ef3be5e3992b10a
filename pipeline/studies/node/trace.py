"""The golden trace of a NODE arm: a digest of two training steps on the CPU, on random images."""

import numpy as np
import torch

from pipeline.data.arrays import Split
from pipeline.run.outputs import digest_tensors
from pipeline.schema.compute import Compute
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.trainer import NodeTrainer

_IMAGES, _CLASSES, _STEPS = 4, 10, 2


@torch.random.fork_rng(devices=[])
def trace_node(run: NodeRun) -> str:
    """Digest of weights and predictions after two training steps, or the solver's error.

    Random numbers come from the run's seed. It takes a fraction of a second for the networks of the digits case.
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
    except ArithmeticError as error:  # an extreme arm may make the solver give up; the error is the trace then
        return f"{type(error).__name__}: {error}"
    return digest_tensors({**trainer.list_state(), "logits": predictions.logits, "nfe": predictions.nfe})
