"""Trains a diffusion model, with checkpoints, snapshots, history and failures."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from pipeline.data.arrays import Split
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
from pipeline.run.workers import Worker
from pipeline.schema.compute import Compute
from pipeline.schema.files import replace_folder, write_file, write_json
from pipeline.studies.ddpm.snapshots import name_snapshot, name_stored
from pipeline.studies.ddpm.study import DdpmRun
from pipeline.studies.ddpm.trace import trace_training
from pipeline.studies.ddpm.trainer import ALONE, DdpmTrainer

_HISTORY_ROWS = 200  # an upper limit, so that plots of many runs stay small


class _Progress:
    """State of a training beside the trainer's tensors: steps, history, and the loss since its last row."""

    def __init__(self, trainer: DdpmTrainer) -> None:
        self.step = 0
        self.history: list[dict[str, float | int | None]] = []
        self.loss_sum = torch.zeros((), device=trainer.device)
        self.interval = -(-trainer.run.training.steps // _HISTORY_ROWS)

    def save(self, trainer: DdpmTrainer, checkpoint: Checkpoint) -> None:
        """Save the whole state of the training."""
        content = {"step": self.step, "history": self.history}
        checkpoint.save({**trainer.list_state(), "loss_sum": self.loss_sum}, content)

    def load(self, trainer: DdpmTrainer, checkpoint: Checkpoint | None) -> None:
        """Restore the state of the last checkpoint in every worker, if there is one.

        Args:
            checkpoint: the leader's; None in the other workers.
        """
        state = {**trainer.list_state(), "loss_sum": self.loss_sum}
        if checkpoint is not None and (found := checkpoint.load()) is not None:
            tensors, content = found
            with torch.no_grad():
                for name, value in state.items():
                    value.copy_(tensors[name])
            self.step, self.history = content["step"], content["history"]
        step = torch.tensor(self.step, device=trainer.device)
        trainer.worker.agree([step, *state.values()])
        self.step = trainer.average.updates = int(step)

    def count(self, loss: Tensor, last: bool) -> float | None:
        """Add the loss of a step; returns the mean loss when it completes a row of the history, else None.

        Raises:
            DivergedError: the mean is not finite.
        """
        self.loss_sum += loss
        self.step += 1
        if self.step % self.interval and not last:
            return None
        steps = (self.step - 1) % self.interval + 1
        mean = check_finite(self.loss_sum.item() / steps, f"step {self.step}: the loss")
        self.history.append({"step": self.step, "loss": mean})
        self.loss_sum.zero_()
        return mean


def _train(
    trainer: DdpmTrainer, progress: _Progress, files: Path | None = None, show: Show = lambda _: None
) -> Iterator[None]:
    """Run the remaining steps; yields after each.

    Args:
        files: folder for snapshots; None: write none.
        show: callback that is given the history after each new row.

    Raises:
        DivergedError: the loss is not finite.
    """
    training = trainer.run.training
    order = trainer.order(progress.step // trainer.steps_per_epoch)
    with show_progress(training.steps, f"ddpm {trainer.run.arm}", "step", progress.step) as bar:
        for step in range(progress.step, training.steps):
            epoch, index = divmod(step, trainer.steps_per_epoch)
            if index == 0:
                order = trainer.order(epoch)
            batch = order[index * training.batch_size : (index + 1) * training.batch_size]
            last = step + 1 == training.steps
            mean = progress.count(trainer.step(step, batch), last)
            bar.update()
            if mean is not None:
                show(progress.history)
                bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
            if files is not None and (last or progress.step % training.snapshot_every == 0):
                _write_snapshot(files, trainer, progress.step)
            yield


def _write_snapshot(files: Path, trainer: DdpmTrainer, step: int) -> None:
    """Write the averaged weights after a step, of all lengths, with the buffers of a network of one's own."""
    buffers = trainer.list_buffers()
    write_weights(files / name_snapshot(step), {**trainer.average.averages, **buffers})
    for length, averages in trainer.average.stored.items():
        write_weights(files / name_stored(length, step), {**averages, **buffers})


def _write_failure(progress: _Progress, trainer: DdpmTrainer, reason: str, folder: Path) -> None:
    """Write failure.json: where and why a run failed."""
    epoch = (max(progress.step, 1) - 1) // trainer.steps_per_epoch + 1
    write_json(folder / "failure.json", {"epoch": epoch, "step": progress.step, "reason": reason})


def write_imported(averages: dict[str, Tensor], settings: str, out: Path) -> None:
    """Write imported weights as `train_ddpm` would: one snapshot after 0 steps, an empty history, run.json."""
    with replace_folder(out) as whole:
        write_weights(whole / name_snapshot(0), averages)
        write_history(whole / "history.tsv", ["step", "loss"], [])
        write_file(whole / "run.json", settings)


def train_ddpm(
    run: DdpmRun,
    train: Split,
    compute: Compute,
    device: str,
    out: Path,
    checkpoint: Checkpoint,
    settings: str,
    worker: Worker = ALONE,
    show: Show = lambda _: None,
) -> str | None:
    """Train one U-Net, from its checkpoint if there is one; returns None, or why the run failed.

    Replaces `out` at the end, atomically: run.json, trace.json, history.tsv, raw weights, and averaged weights of every
    snapshot. A failed run has failure.json instead of weights.

    Args:
        checkpoint: not yet entered; only the leader enters it.
        settings: the resolved run, the content of run.json.
        show: callback of the leader that is given the history after each new row.

    Raises:
        ValueError: the training split is smaller than a batch, the workers cannot share a batch evenly, or another
            process trains this run.
        SystemExit: the process was asked to end; the state is saved.
    """
    trainer = DdpmTrainer(run, train, compute, device, worker)
    progress = _Progress(trainer)
    failure = None
    if not worker.leads:
        progress.load(trainer, None)
        try:
            for _ in _train(trainer, progress):
                pass
        except DivergedError as error:  # the leader gets the same error and records it
            failure = str(error)
        return failure
    with checkpoint:
        progress.load(trainer, checkpoint)
        files = checkpoint.files
        try:
            steps = _train(trainer, progress, files, show)
            save_regularly(steps, checkpoint, lambda: progress.save(trainer, checkpoint))
            weights = {**dict(trainer.network.named_parameters()), **trainer.list_buffers()}
            write_weights(files / "last.safetensors", weights)
        except (DivergedError, RuntimeError, MemoryError) as error:
            if worker.count > 1 and not isinstance(error, DivergedError):
                raise  # the other workers may be waiting for this one; torchrun ends them
            failure = explain_failure(error)
            files = checkpoint.make_folder("failed")
            _write_failure(progress, trainer, failure, files)
        write_file(files / "run.json", settings)
        write_json(files / "trace.json", {"trace": trace_training(run)})
        write_history(files / "history.tsv", ["step", "loss"], progress.history)
        checkpoint.finish(files, out, keep=failure == OUT_OF_MEMORY)
    return failure
