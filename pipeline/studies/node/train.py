"""Trains a NODE classifier, with checkpoints, history and failures."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.arrays import Split
from pipeline.ode.solve import SolveError
from pipeline.run.checkpoint import Checkpoint
from pipeline.run.interruption import save_regularly
from pipeline.run.outputs import (
    OUT_OF_MEMORY,
    DivergedError,
    check_finite,
    explain_failure,
    write_history,
    write_weights,
)
from pipeline.run.progress import Show, show_progress
from pipeline.schema.compute import Compute
from pipeline.schema.files import write_file, write_json
from pipeline.studies.node.predict import Predictions, join_predictions
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.trace import trace_node
from pipeline.studies.node.trainer import NodeTrainer

_HISTORY = (
    "epoch",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "nfe_train",
    "nfe_backward",
    "test_loss",
    "test_accuracy",
    "nfe",
)


def _mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _select(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with a prefix, by name without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


class _Progress:
    """State of a training beside the trainer's tensors: steps, history, counts of the current epoch, best weights.

    The best weights are those of the first epoch with the highest test accuracy.
    """

    def __init__(self, trainer: NodeTrainer) -> None:
        self.step = 0
        self.history: list[dict[str, float | int | None]] = []
        self.tally = trainer.begin_epoch()
        self.best: dict[str, Tensor] = {}

    @property
    def best_epoch(self) -> int:
        """Number of the best epoch so far, from 1."""
        accuracies = [row["test_accuracy"] or 0.0 for row in self.history]
        return accuracies.index(max(accuracies)) + 1

    def _list_state(self, trainer: NodeTrainer) -> dict[str, Tensor]:
        return {**trainer.list_state(), "tally.loss": self.tally.loss, "tally.correct": self.tally.correct}

    def save(self, trainer: NodeTrainer, checkpoint: Checkpoint) -> None:
        """Save the whole state of the training."""
        tally = {"nfe": self.tally.nfe, "nfe_backward": self.tally.nfe_backward}
        content = {"step": self.step, "history": self.history, "tally": tally, "rate": trainer.save_rate()}
        best = {f"best.{name}": value for name, value in self.best.items()}
        checkpoint.save({**self._list_state(trainer), **best}, content)

    def load(self, trainer: NodeTrainer, checkpoint: Checkpoint) -> None:
        """Restore the state of the last checkpoint, if there is one."""
        if (found := checkpoint.load()) is None:
            return
        tensors, content = found
        with torch.no_grad():
            for name, value in self._list_state(trainer).items():
                value.copy_(tensors[name])
        self.best = _select(tensors, "best.")
        self.step, self.history = content["step"], content["history"]
        self.tally.nfe, self.tally.nfe_backward = content["tally"]["nfe"], content["tally"]["nfe_backward"]
        trainer.load_rate(content["rate"])

    def finish_epoch(
        self, trainer: NodeTrainer, predictions: Predictions, labels: Tensor
    ) -> dict[str, float | int | None]:
        """Add a row to the history and return it; update schedule and best weights, and begin the next epoch.

        Raises:
            DivergedError: the training loss or the test loss is not finite.
        """
        count, has_ode = len(trainer.images), trainer.network.field is not None
        accuracy = (predictions.logits.argmax(1) == labels).double().mean().item() * 100
        row = {
            "epoch": len(self.history) + 1,
            "learning_rate": trainer.optimiser.param_groups[0]["lr"],
            "train_loss": check_finite(self.tally.loss.item() / count, "the training loss"),
            "train_accuracy": self.tally.correct.item() / count * 100,
            "nfe_train": _mean(self.tally.nfe),
            "nfe_backward": _mean(self.tally.nfe_backward),
            "test_loss": check_finite(functional.cross_entropy(predictions.logits, labels).item(), "the test loss"),
            "test_accuracy": accuracy,
            "nfe": predictions.nfe.double().mean().item() if has_ode else None,
        }
        self.history.append(row)
        if trainer.run.training.schedule == "plateau":
            trainer.plateau.step(accuracy)
        if self.best_epoch == len(self.history):
            self.best = {name: value.clone() for name, value in trainer.network.state_dict().items()}
        self.tally = trainer.begin_epoch()
        return row


def _train(trainer: NodeTrainer, progress: _Progress, images: Tensor, labels: Tensor, show: Show) -> Iterator[None]:
    """Run the remaining steps and evaluations; yields after each step and each test batch.

    Args:
        images: normalised images of the test split, on the device.
        labels: labels of the test split.
        show: callback that is given the history after each epoch.

    Raises:
        SolveError: a solve gave up.
        DivergedError: the training loss is not finite.
    """
    training = trainer.run.training
    with show_progress(trainer.steps, f"node {trainer.run.arm}", "step", progress.step) as bar:
        for epoch in range(len(progress.history) + 1, training.epochs + 1):
            done = progress.step - (epoch - 1) * trainer.steps_per_epoch
            for batch in islice(trainer.order(epoch), done, None):
                trainer.step(progress.step, batch, progress.tally)
                progress.step += 1
                bar.update()
                yield
            parts = []
            for batch in images.split(training.batch_size):
                parts.append(trainer.predict(batch))
                yield
            row = progress.finish_epoch(trainer, join_predictions(parts), labels)
            show(progress.history)
            bar.set_postfix(epoch=epoch, accuracy=f"{row['test_accuracy']:.1f}", nfe=row["nfe"])


def train_node(
    run: NodeRun,
    train: Split,
    test: Split,
    compute: Compute,
    device: str,
    out: Path,
    checkpoint: Checkpoint,
    settings: str,
    show: Show = lambda _: None,
) -> str | None:
    """Train one classifier, from its checkpoint if there is one; returns None, or why the run failed.

    Replaces `out` at the end, atomically: run.json, trace.json, history.tsv (one row per finished epoch), best and last
    weights. A failed run has failure.json instead of the last weights. The paper's plateau schedule follows the test
    accuracy, so training sees the test split.

    Args:
        checkpoint: not yet entered.
        settings: the resolved run, the content of run.json.
        show: callback that is given the history after each epoch.

    Raises:
        ValueError: another process trains this run, or code or settings have changed meanwhile.
        SystemExit: the process was asked to end; the state is saved.
    """
    trainer = NodeTrainer(run, train, compute, device)
    images, labels = trainer.normalise(test.images), torch.from_numpy(test.labels)
    progress, failure = _Progress(trainer), None
    with checkpoint:
        progress.load(trainer, checkpoint)
        files = checkpoint.make_folder("outcome")
        try:
            steps = _train(trainer, progress, images, labels, show)
            save_regularly(steps, checkpoint, lambda: progress.save(trainer, checkpoint))
        except (SolveError, DivergedError, RuntimeError, MemoryError) as error:
            failure, epoch = explain_failure(error), len(progress.history) + 1
            write_json(files / "failure.json", {"epoch": epoch, "step": progress.step, "reason": failure})
        else:
            write_weights(files / "last.safetensors", trainer.network.state_dict())
        if progress.best:
            write_weights(files / "best.safetensors", progress.best)
        write_file(files / "run.json", settings)
        write_json(files / "trace.json", {"trace": trace_node(run)})
        write_history(files / "history.tsv", _HISTORY, progress.history)
        checkpoint.finish(files, out, keep=failure == OUT_OF_MEMORY)
    return failure
