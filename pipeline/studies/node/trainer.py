"""One NODE classifier in training: optimiser steps and their state."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

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
from pipeline.studies.node.network import Classified
from pipeline.studies.node.predict import NodePredictor
from pipeline.studies.node.study import NodeRun, NodeTraining


@dataclass
class Tally:
    """Sums over the batches of an epoch, and their NFE. Tensors stay on the device until the epoch ends."""

    loss: Tensor
    correct: Tensor
    nfe: list[int] = field(default_factory=list)
    nfe_backward: list[int] = field(default_factory=list)


def augment(images: Tensor, training: NodeTraining, generator: torch.Generator) -> Tensor:
    """Crop, jitter colours and flip, in the order of neural-ode-features; images [B, C, H, W] in [0, 1]."""
    if training.crop_padding:
        images = crop_randomly(images, training.crop_padding, generator)
    if training.hue or training.saturation:
        images = jitter_colours(images, training.hue, training.saturation, generator)
    return flip_randomly(images, generator) if training.flip else images


class NodeTrainer(NodePredictor):
    """A classifier, its optimiser and the training images on the device; `step` is one optimiser step.

    The random numbers of a step depend on (seed, purpose, step) alone, so a checkpoint needs no generator state.

    Args:
        train: the training split.
        device: `cpu` or `cuda`.
    """

    def __init__(self, run: NodeRun, train: Split, compute: Compute, device: str) -> None:
        channels, size = train.images.shape[1], train.images.shape[2]
        super().__init__(run, channels, size, train.classes, compute, device)
        training = run.training
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), training.learning_rate, training.momentum, weight_decay=training.weight_decay
        )
        for value in self.network.parameters():  # SGD creates them in its first step; a state may be loaded before
            self.optimiser.state[value] = {"momentum_buffer": torch.zeros_like(value)}
        self.steps_per_epoch = count_batches(len(train.images), training.batch_size)
        self.steps = training.epochs * self.steps_per_epoch
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimiser, "max", patience=training.patience)
        self.cosine = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, self.steps)
        self.images = torch.from_numpy(train.images).to(device)
        self.labels = torch.from_numpy(train.labels).to(device)

    def order(self, epoch: int) -> Iterator[Tensor]:
        """The batches of an epoch, as image indices [B] on the device; the last one may be smaller."""
        order = order_images(len(self.images), make_generator("cpu", self.run.seed, "order", epoch))
        return split_batches(order.to(self.device), self.run.training.batch_size)

    def step(self, step: int, batch: Tensor, tally: Tally) -> None:
        """Take optimiser step number `step`, from 0, on the images at the indices `batch`; add to `tally`.

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
        # Sums over images, as the last batch may be smaller; no .item(), which would wait for the GPU.
        tally.loss += loss.detach() * len(batch)
        tally.correct += (logits.argmax(1) == labels).sum()
        if classified.solution is not None:
            tally.nfe.append(classified.solution.nfe)
            if self.run.network.gradient == "adjoint":
                tally.nfe_backward.append(classified.solution.nfe_backward)

    def begin_epoch(self) -> Tally:
        """An empty tally."""
        return Tally(torch.zeros((), device=self.device), torch.zeros((), device=self.device))

    def list_state(self) -> dict[str, Tensor]:
        """The tensors that a step changes, by name. Write to them to restore a state."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, value in self.network.named_parameters():
            state[f"momentum.{name}"] = self.optimiser.state[value]["momentum_buffer"]
        return state

    def save_rate(self) -> dict[str, Any]:
        """The learning rate and the state of its schedules, as JSON values."""
        rate = self.optimiser.param_groups[0]["lr"]
        return {"rate": rate, "plateau": self.plateau.state_dict(), "cosine": self.cosine.state_dict()}

    def load_rate(self, content: dict[str, Any]) -> None:
        """Restore what `save_rate` returned."""
        self.optimiser.param_groups[0]["lr"] = content["rate"]
        self.plateau.load_state_dict(content["plateau"])
        self.cosine.load_state_dict(content["cosine"])
