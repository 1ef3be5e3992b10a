"""The golden trace of a diffusion model's training: a digest of two steps on the CPU, on random images."""

import numpy as np
import torch

from pipeline.data.arrays import Split
from pipeline.run.outputs import digest_tensors
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute
from pipeline.studies.ddpm.study import DdpmRun
from pipeline.studies.ddpm.trainer import DdpmTrainer

_IMAGES, _STEPS = 2, 2


@torch.random.fork_rng(devices=[])
def trace_training(run: DdpmRun) -> str:
    """Digest of weights, averages, optimiser state and loss after two training steps.

    Random numbers come from the run's seed. Images have one channel; a user's own network may not take that.
    """
    size = (_IMAGES, 1, run.training.image_size, run.training.image_size)
    images = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    split = Split(images, np.zeros(_IMAGES, dtype=np.int64), 1)
    budget = run.training.model_copy(update={"batch_size": _IMAGES, "steps": _STEPS, "warmup": 1})
    try:
        trainer = DdpmTrainer(run.model_copy(update={"training": budget}), split, Compute(device="cpu"), "cpu")
    except SpecError as error:
        return f"no trace: {error}"
    loss = sum((trainer.step(step, torch.arange(_IMAGES)) for step in range(_STEPS)), torch.zeros(()))
    return digest_tensors({**trainer.list_state(), "loss": loss})
