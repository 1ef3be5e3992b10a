"""Training of the NODE classifier."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.arrays import Split, write_arrays
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
from pipeline.networks.node import Classified, NodeClassifier
from pipeline.networks.time_awareness import TimeAwareness, measure_time_awareness
from pipeline.ode.solve import SolveError, backpropagate
from pipeline.schema.compute import Compute
from pipeline.schema.node import NodeRun, NodeTraining
from pipeline.training.outputs import (
    DivergedError,
    check_finite,
    count_params,
    write_history,
    write_json,
    write_run,
    write_weights,
)
from pipeline.training.progress import show_progress
from pipeline.training.seeding import make_generator, seed_global

_HISTORY = (
    "epoch",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "train_nfe",
    "backward_nfe",
    "test_loss",
    "test_accuracy",
    "test_nfe",
)
_NO_NFE = -1  # in arrays of integers: the network has no ODE block


@dataclass(frozen=True)
class Predictions:
    """Logits [N, classes] of the test split in its order, and the forward NFE of every batch."""

    logits: Tensor
    nfe: Tensor


@dataclass
class Tally:
    """Sums over the batches of an epoch; tensors stay on the device until the epoch ends."""

    loss: Tensor
    correct: Tensor
    augmentation: torch.Generator
    nfe: list[int] = field(default_factory=list)
    nfe_backward: list[int] = field(default_factory=list)


def augment(images: Tensor, training: NodeTraining, generator: torch.Generator) -> Tensor:
    """Crop, colour jitter, flip, in the recipe's order; images [B, C, H, W] in [0, 1]."""
    if training.crop_padding:
        images = crop_randomly(images, training.crop_padding, generator)
    if training.hue or training.saturation:
        images = jitter_colours(images, training.hue, training.saturation, generator)
    return flip_randomly(images, generator) if training.flip else images


def _mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None


class NodeTrainer:
    """One classifier, its optimiser and the training images on the device; `step` is one optimiser step.

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

    def step(self, batch: Tensor, tally: Tally) -> None:
        """One optimiser step on the images at the indices `batch`, counted in `tally`.

        Raises:
            SolveError: the forward or the adjoint solve gave up.
        """
        training, labels = self.run.training, self.labels[batch]
        x = augment(scale_images(self.images[batch]), training, tally.augmentation)
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

    def begin_epoch(self, epoch: int) -> Tally:
        """Network in training mode, the epoch's random streams, nothing counted yet."""
        self.network.train()
        seed_global(self.run.seed, "dropout", epoch)
        zeros = torch.zeros(2, device=self.device)
        return Tally(zeros[0], zeros[1], make_generator(self.device, self.run.seed, "augmentation", epoch))

    @torch.no_grad()
    def predict(self, images: Tensor) -> Predictions:
        """Predictions for normalised images [N, C, H, W], batch by batch in order."""
        self.network.eval()
        logits, nfe = [], []
        for batch in images.split(self.run.training.batch_size):
            with self.autocast:
                classified: Classified = self.network(batch)
            logits.append(classified.logits.float())
            nfe.append(classified.solution.nfe if classified.solution is not None else _NO_NFE)
        return Predictions(torch.cat(logits).cpu(), torch.tensor(nfe))

    @torch.no_grad()
    def measure_awareness(self, images: Tensor) -> TimeAwareness | None:
        """Time-awareness on the features of a test batch; None without an ODE block."""
        self.network.eval()
        if self.network.field is None:
            return None
        h = self.network.extract(images[: self.run.training.batch_size])
        return measure_time_awareness(self.network.field, h)


def _summarise_epoch(
    epoch: int, trainer: NodeTrainer, tally: Tally, predictions: Predictions, labels: Tensor
) -> dict[str, float | int | None]:
    """A row of the history.

    Raises:
        DivergedError: the training loss is not finite.
    """
    count, has_ode = len(trainer.images), trainer.network.field is not None
    return {
        "epoch": epoch,
        "learning_rate": trainer.optimiser.param_groups[0]["lr"],
        "train_loss": check_finite(tally.loss.item() / count, "the training loss"),
        "train_accuracy": tally.correct.item() / count * 100,
        "train_nfe": _mean(tally.nfe),
        "backward_nfe": _mean(tally.nfe_backward),
        "test_loss": functional.cross_entropy(predictions.logits, labels).item(),
        "test_accuracy": (predictions.logits.argmax(1) == labels).double().mean().item() * 100,
        "test_nfe": predictions.nfe.double().mean().item() if has_ode else None,
    }


def train_node(run: NodeRun, train: Split, test: Split, compute: Compute, device: str, out: Path) -> str | None:
    """Train one classifier; returns None, or why the run failed.

    Writes to `out`: run.json, history.tsv (a row per finished epoch), time_awareness.json, best and last weights and
    predictions.safetensors; of a failed run failure.json in place of the last weights and the predictions.
    The paper's plateau schedule watches the test accuracy, so training sees the test split.
    """
    trainer = NodeTrainer(run, train, compute, device)
    training, network = run.training, trainer.network
    test_images, test_labels = trainer.normalise(test.images), torch.from_numpy(test.labels)
    out.mkdir(parents=True, exist_ok=True)
    write_run(out / "run.json", run, count_params(network))
    awareness = {"initial": trainer.measure_awareness(test_images)}
    history: list[dict[str, float | int | None]] = []
    best_accuracy, best_epoch, failure = -1.0, 0, None
    arrays: dict[str, np.ndarray] = {"labels": test.labels}
    bar = show_progress(trainer.steps, f"node {run.arm}", "step")
    try:
        for epoch in range(1, training.epochs + 1):
            tally = trainer.begin_epoch(epoch)
            for batch in trainer.order(epoch):
                trainer.step(batch, tally)
                bar.update()
            predictions = trainer.predict(test_images)
            row = _summarise_epoch(epoch, trainer, tally, predictions, test_labels)
            history.append(row)
            accuracy = row["test_accuracy"]
            assert accuracy is not None
            if training.schedule == "plateau":
                trainer.plateau.step(accuracy)
            bar.set_postfix(epoch=epoch, accuracy=f"{accuracy:.1f}", nfe=row["test_nfe"])
            if accuracy > best_accuracy:
                best_accuracy, best_epoch = accuracy, epoch
                write_weights(out / "best.safetensors", network.state_dict())
                arrays |= {"best_logits": predictions.logits.numpy(), "best_nfe": predictions.nfe.numpy()}
        awareness["trained"] = trainer.measure_awareness(test_images)
        arrays |= {"last_logits": predictions.logits.numpy(), "last_nfe": predictions.nfe.numpy()}
        arrays["epochs"] = np.array([best_epoch, training.epochs, count_params(network)])
        write_weights(out / "last.safetensors", network.state_dict())
        write_arrays(out / "predictions.safetensors", arrays)
    except (SolveError, DivergedError) as error:
        failure = str(error)
        write_json(out / "failure.json", {"epoch": epoch, "step": bar.n, "reason": failure})
    bar.close()
    write_history(out / "history.tsv", _HISTORY, history)
    write_json(out / "time_awareness.json", {when: asdict(value) for when, value in awareness.items() if value})
    return failure
