"""Predictions of a NODE classifier: logits, function evaluations and time-awareness."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.compute.seeding import seed_global
from pipeline.data.batches import normalise_images, scale_images
from pipeline.schema.compute import Compute
from pipeline.studies.node.network import Classified, NodeClassifier, OdeFunction
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.time_awareness import TimeAwareness, measure_time_awareness

_NO_NFE = -1  # stands for None in integer tensors: the network has no ODE block


@dataclass(frozen=True)
class Predictions:
    """Logits [N, classes] in the order of images, and the forward NFE of each batch [batches]; on the CPU."""

    logits: Tensor
    nfe: Tensor


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Concatenate the predictions of batches."""
    return Predictions(torch.cat([part.logits for part in parts]), torch.cat([part.nfe for part in parts]))


class NodePredictor:
    """A classifier on a device, with initial weights from the run's seed.

    Args:
        channels: channels of an image.
        size: side of an image in pixels.
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
        """Convert uint8 images [N, C, H, W] to normalised float32 images on the device."""
        scaled = scale_images(torch.from_numpy(images).to(self.device))
        return normalise_images(scaled, self.run.training.mean, self.run.training.std)

    @torch.no_grad()
    def predict(self, batch: Tensor, frozen: float | None = None) -> Predictions:
        """Predictions for one batch of normalised images [B, C, H, W]; `frozen` as in `NodeClassifier`."""
        self.network.eval()
        with self.autocast:
            classified: Classified = self.network(batch, frozen)
        nfe = classified.solution.nfe if classified.solution is not None else _NO_NFE
        return Predictions(classified.logits.float().cpu(), torch.tensor([nfe]))

    def predict_all(self, images: Tensor, frozen: float | None = None) -> Predictions:
        """Predictions for normalised images [N, C, H, W], in batches of the training's size; `frozen` as above.

        The batch size matters: batch norm uses the batch's statistics, and a batch shares its solver steps.
        """
        return join_predictions([self.predict(batch, frozen) for batch in images.split(self.run.training.batch_size)])

    @torch.no_grad()
    def measure_awareness(self, images: Tensor) -> TimeAwareness | None:
        """Time-awareness on the features of the first batch of images; None without an ODE function of ours."""
        self.network.eval()
        if not isinstance(self.network.field, OdeFunction):
            return None
        h = self.network.extract(images[: self.run.training.batch_size])
        return measure_time_awareness(self.network.field, h)
