"""A NODE classifier that predicts: its logits, function evaluations and time-awareness."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.compute.seeding import seed_global
from pipeline.data.batches import normalise_images, scale_images
from pipeline.schema.compute import Compute
from pipeline.studies.node.network import Classified, NodeClassifier
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.time_awareness import TimeAwareness, measure_time_awareness

_NO_NFE = -1  # in arrays of integers: the network has no ODE block


@dataclass(frozen=True)
class Predictions:
    """Logits [N, classes] of images in their order, and the forward NFE of every batch; on the CPU."""

    logits: Tensor
    nfe: Tensor


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Those of batches, one after another."""
    return Predictions(torch.cat([part.logits for part in parts]), torch.cat([part.nfe for part in parts]))


class NodePredictor:
    """One classifier on a device, with its initial weights, which the run's seed decides.

    Args:
        channels: of an image.
        size: of an image, pixels a side.
        classes: number of labels.
        device: `cpu` or `cuda`.
    """

    def __init__(self, run: NodeRun, channels: int, size: int, classes: int, compute: Compute, device: str) -> None:
        self.run, self.device = run, device
        seed_global(run.seed, "initialisation")
        self.network = NodeClassifier(run.network, channels, size, classes).to(device)
        if compute.compile and self.network.field is not None:
            self.network.field.compile(dynamic=False)
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bfloat16")

    def normalise(self, images: np.ndarray) -> Tensor:
        """uint8 images to what the network sees, on the device."""
        scaled = scale_images(torch.from_numpy(images).to(self.device))
        return normalise_images(scaled, self.run.training.mean, self.run.training.std)

    @torch.no_grad()
    def predict(self, batch: Tensor) -> Predictions:
        """Predictions for one batch of normalised images [B, C, H, W]."""
        self.network.eval()
        with self.autocast:
            classified: Classified = self.network(batch)
        nfe = classified.solution.nfe if classified.solution is not None else _NO_NFE
        return Predictions(classified.logits.float().cpu(), torch.tensor([nfe]))

    def predict_all(self, images: Tensor) -> Predictions:
        """Predictions for normalised images [N, C, H, W], in batches of the training's size."""
        return join_predictions([self.predict(batch) for batch in images.split(self.run.training.batch_size)])

    @torch.no_grad()
    def measure_awareness(self, images: Tensor) -> TimeAwareness | None:
        """Time-awareness on the features of a test batch; None without an ODE block."""
        self.network.eval()
        if self.network.field is None:
            return None
        h = self.network.extract(images[: self.run.training.batch_size])
        return measure_time_awareness(self.network.field, h)
