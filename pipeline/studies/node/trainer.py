"""One NODE classifier in training: a step of its optimiser, its predictions, its time-awareness."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.compute.seeding import make_generator, seed_global
from pipeline.data.arrays import Split
from pipeline.data.batches import (
    count_batches,
    crop_randomly,
    flip_randomly,
    jitter_colours,
    normalise_images,
    order_images,
    scale_images,
    split_batches,
)
from pipeline.ode.solve import backpropagate
from pipeline.schema.compute import Compute
from pipeline.studies.node.network import Classified, NodeClassifier
from pipeline.studies.node.study import NodeRun, NodeTraining
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


@dataclass
class Tally:
    """Sums over the batches of an epoch; tensors stay on the device until the epoch ends."""

    loss: Tensor
    correct: Tensor
    nfe: list[int] = field(default_factory=list)
    nfe_backward: list[int] = field(default_factory=list)


def augment(images: Tensor, training: NodeTraining, generator: torch.Generator) -> Tensor:
    """Crop, colour jitter, flip, in the recipe's order; images [B, C, H, W] in [0, 1]."""
    if training.crop_padding:
        images = crop_randomly(images, training.crop_padding, generator)
    if training.hue or training.saturation:
        images = jitter_colours(images, training.hue, training.saturation, generator)
    return flip_randomly(images, generator) if training.flip else images


class NodeTrainer:
    """One classifier, its optimiser and the training images on the device; `step` is one optimiser step.

    Random numbers are drawn anew in each step, by (seed, purpose, step), so that a state needs none of them.

    Args:
        train: the training split.
        device: `cpu` or `cuda`.
    """

    def __init__(self, run: NodeRun, train: Split, compute: Compute, device: str) -> None:
        self.run, self.device, training = run, device, run.training
        seed_global(run.seed, "initialisation")
        channels, size = train.images.shape[1], train.images.shape[2]
        self.network = NodeClassifier(run.network, channels, size, train.classes).to(device)
        if compute.compile and self.network.field is not None:
            self.network.field.compile(dynamic=False)
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), training.learning_rate, training.momentum, weight_decay=training.weight_decay
        )
        for value in self.network.parameters():  # as if SGD had made them, so that a state can be loaded
            self.optimiser.state[value] = {"momentum_buffer": torch.zeros_like(value)}
        self.steps_per_epoch = count_batches(len(train.images), training.batch_size)
        self.steps = training.epochs * self.steps_per_epoch
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimiser, "max", patience=training.patience)
        self.cosine = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, self.steps)
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bfloat16")
        self.images = torch.from_numpy(train.images).to(device)
        self.labels = torch.from_numpy(train.labels).to(device)

    def normalise(self, images: np.ndarray) -> Tensor:
        """uint8 images to what the network sees, on the device."""
        scaled = scale_images(torch.from_numpy(images).to(self.device))
        return normalise_images(scaled, self.run.training.mean, self.run.training.std)

    def order(self, epoch: int) -> Iterator[Tensor]:
        """The batches of an epoch, as indices on the device."""
        order = order_images(len(self.images), make_generator("cpu", self.run.seed, "order", epoch))
        return split_batches(order.to(self.device), self.run.training.batch_size)

    def step(self, step: int, batch: Tensor, tally: Tally) -> None:
        """Optimiser step number `step`, from 0, on the images at the indices `batch`, counted in `tally`.

        Raises:
            SolveError: the forward or the adjoint solve gave up.
        """
        self.network.train()
        training, labels = self.run.training, self.labels[batch]
        generator = make_generator(self.device, self.run.seed, "augmentation", step)
        x = augment(scale_images(self.images[batch]), training, generator)
        seed_global(self.run.seed, "dropout", step)
        with self.autocast:
            classified: Classified = self.network(normalise_images(x, training.mean, training.std))
        logits = classified.logits.float()
        loss = functional.cross_entropy(logits, labels)
        self.optimiser.zero_grad(set_to_none=True)
        backpropagate(loss)
        self.optimiser.step()
        if training.schedule == "cosine":
            self.cosine.step()
        tally.loss += loss.detach() * len(batch)
        tally.correct += (logits.argmax(1) == labels).sum()
        if classified.solution is not None:
            tally.nfe.append(classified.solution.nfe)
            if self.run.network.gradient == "adjoint":
                tally.nfe_backward.append(classified.solution.nfe_backward)

    def begin_epoch(self) -> Tally:
        """Nothing counted yet."""
        return Tally(torch.zeros((), device=self.device), torch.zeros((), device=self.device))

    @torch.no_grad()
    def predict(self, batch: Tensor) -> Predictions:
        """Predictions for one batch of normalised images [B, C, H, W]."""
        self.network.eval()
        with self.autocast:
            classified: Classified = self.network(batch)
        nfe = classified.solution.nfe if classified.solution is not None else _NO_NFE
        return Predictions(classified.logits.float().cpu(), torch.tensor([nfe]))

    @torch.no_grad()
    def measure_awareness(self, images: Tensor) -> TimeAwareness | None:
        """Time-awareness on the features of a test batch; None without an ODE block."""
        self.network.eval()
        if self.network.field is None:
            return None
        h = self.network.extract(images[: self.run.training.batch_size])
        return measure_time_awareness(self.network.field, h)

    def list_state(self) -> dict[str, Tensor]:
        """The tensors that a step changes, by name; writing to them sets the state."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, value in self.network.named_parameters():
            state[f"momentum.{name}"] = self.optimiser.state[value]["momentum_buffer"]
        return state

    def save_rate(self) -> dict[str, Any]:
        """The learning rate and what its schedules remember, as JSON has it."""
        rate = self.optimiser.param_groups[0]["lr"]
        return {"rate": rate, "plateau": self.plateau.state_dict(), "cosine": self.cosine.state_dict()}

    def load_rate(self, content: dict[str, Any]) -> None:
        """Set what `save_rate` gave."""
        self.optimiser.param_groups[0]["lr"] = content["rate"]
        self.plateau.load_state_dict(content["plateau"])
        self.cosine.load_state_dict(content["cosine"])
