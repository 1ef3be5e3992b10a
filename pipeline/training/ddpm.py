"""Training of the diffusion model."""

import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.data.arrays import Split
from pipeline.data.batches import flip_randomly, order_images, scale_images
from pipeline.diffusion.loss import noise_loss
from pipeline.diffusion.schedule import add_noise, make_schedule
from pipeline.networks.level_awareness import LevelAwareness, measure_level_awareness
from pipeline.networks.unet import make_unet
from pipeline.schema.compute import Compute
from pipeline.schema.ddpm import DdpmRun
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.ema import ExponentialMovingAverage
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
from pipeline.training.workers import Worker

_HISTORY_ROWS = 200  # at most, so that plots of many runs stay small
_AWARENESS_IMAGES = 32
_ALONE = Worker()


def name_snapshot(step: int) -> str:
    """File of the averaged weights after so many steps."""
    return f"ema-{step:07d}.safetensors"


@torch.no_grad()
def measure_averages(run: DdpmRun, averages: dict[str, Tensor], images: Tensor) -> LevelAwareness:
    """Level-awareness of averaged weights on noisy images of the middle level.

    Args:
        images: uint8 [N, C, H, W] on the device; the first ones are used.
    """
    x = scale_images(images[:_AWARENESS_IMAGES]) * 2 - 1
    level = run.diffusion.levels // 2
    noise = torch.randn(x.shape, generator=make_generator("cpu", run.seed, "awareness")).to(x.device)
    schedule = make_schedule(run.diffusion, str(x.device))
    network = make_unet(run, x.shape[1]).to(x.device)
    network.load_state_dict(averages)
    noisy = add_noise(schedule, x, torch.full((len(x),), level, device=x.device), noise)
    return measure_level_awareness(network.eval(), noisy, level)


class DdpmTrainer:
    """One U-Net, its optimiser and the training images on the device; `step` is one optimiser step.

    Random numbers are drawn anew in each step, by (seed, purpose, step), and for the whole batch by every worker, which
    then takes its part: so a state needs none of them, and the number of workers changes none but dropout's.

    Args:
        train: the training split.
        device: `cpu` or `cuda`.
        worker: this process among those that share each batch.

    Raises:
        ValueError: the training split is smaller than a batch, or a batch cannot be shared evenly.
    """

    def __init__(self, run: DdpmRun, train: Split, compute: Compute, device: str, worker: Worker = _ALONE) -> None:
        self.run, self.device, self.worker, training = run, device, worker, run.training
        self.steps_per_epoch = len(train.images) // training.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(f"batch_size = {training.batch_size}: the training split has {len(train.images)} images")
        if training.batch_size % worker.count:
            raise ValueError(
                f"batch_size = {training.batch_size} is not divisible by {worker.count}, the GPUs at work; "
                "set resources.gpus in params.yaml"
            )
        seed_global(run.seed, *run.purpose("initialisation"))
        self.network = make_unet(run, train.images.shape[1]).to(device)
        self.layout = torch.channels_last if training.channels_last else torch.contiguous_format
        self.network.to(memory_format=self.layout).train()
        if compute.compile:
            self.network.compile(dynamic=False)
        self.average = ExponentialMovingAverage(self.network, training.ema_decay)
        self.optimiser = torch.optim.Adam(self.network.parameters(), training.learning_rate, fused=training.fused)
        for value in self.network.parameters():  # what Adam would make in its first step, so that a state can be loaded
            self.optimiser.state[value] = {
                "step": torch.zeros((), device=device if training.fused else "cpu"),
                "exp_avg": torch.zeros_like(value),
                "exp_avg_sq": torch.zeros_like(value),
            }
        shared = worker.count > 1
        self.denoiser: nn.Module = DistributedDataParallel(self.network) if shared else self.network
        self.schedule = make_schedule(run.diffusion, device)
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bfloat16")
        self.images = torch.from_numpy(train.images).to(device)

    def order(self, epoch: int) -> Tensor:
        """The images of an epoch in their order, as indices on the device; what fills no batch is left out."""
        generator = make_generator("cpu", self.run.seed, *self.run.purpose("order", epoch))
        return order_images(len(self.images), generator).to(self.device)

    def draw(self, step: int, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """This worker's part of a step's images in [-1, 1], levels and noise."""
        run = self.run
        x = scale_images(self.images[batch]) * 2 - 1
        if run.training.flip:
            x = flip_randomly(x, make_generator(self.device, run.seed, *run.purpose("augmentation", step)))
        generator = make_generator(self.device, run.seed, *run.purpose("noise", step))
        level = torch.randint(0, self.schedule.levels, (len(x),), generator=generator, device=self.device)
        noise = torch.randn(x.shape, generator=generator, device=self.device)
        own = self.worker.share(len(x))
        return x[own].contiguous(memory_format=self.layout), level[own], noise[own]

    def step(self, step: int, batch: Tensor) -> Tensor:
        """Optimiser step number `step`, from 0, on the images at the indices `batch`; returns their mean loss."""
        training = self.run.training
        x, level, noise = self.draw(step, batch)
        seed_global(
            self.run.seed, *self.run.purpose("dropout", step, *([self.worker.rank] if self.worker.rank else []))
        )
        with self.autocast:
            loss = noise_loss(self.denoiser, self.schedule, x, level, noise)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimiser.param_groups:  # the base code's warm-up: the first step has rate 0
            group["lr"] = training.learning_rate * (min(step / training.warmup, 1.0) if training.warmup else 1.0)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), training.clip, foreach=True)
        self.optimiser.step()
        self.average.update()
        return self.worker.average(loss.detach())

    def list_state(self) -> dict[str, Tensor]:
        """The tensors that a step changes, by name; writing to them sets the state."""
        state = {f"ema.{name}": value for name, value in self.average.averages.items()}
        for name, value in self.network.named_parameters():
            state[f"raw.{name}"] = value.data
            state |= {f"adam.{key}.{name}": part for key, part in self.optimiser.state[value].items()}
        return state

    def measure_awareness(self) -> LevelAwareness:
        """Of the averaged weights."""
        return measure_averages(self.run, self.average.averages, self.images)


class _Signals:
    """A context that notes when the process is asked to end (SIGTERM, Ctrl-C), so that a loop can save its state."""

    def __init__(self) -> None:
        self.number = 0

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number

    def __enter__(self) -> "_Signals":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Progress:
    """What a training has written down so far, beside the trainer's tensors."""

    def __init__(self, trainer: DdpmTrainer) -> None:
        self.step = 0
        self.history: list[dict[str, float | int | None]] = []
        self.loss_sum = torch.zeros((), device=trainer.device)
        self.initial = asdict(trainer.measure_awareness())
        self.interval = -(-trainer.run.training.steps // _HISTORY_ROWS)

    def save(self, trainer: DdpmTrainer, checkpoint: Checkpoint) -> None:
        """Write the whole state."""
        content = {"step": self.step, "history": self.history, "initial": self.initial}
        checkpoint.save({**trainer.list_state(), "loss_sum": self.loss_sum}, content)

    def load(self, trainer: DdpmTrainer, checkpoint: Checkpoint | None) -> None:
        """Set the state of the last checkpoint, in every worker; without one, nothing changes."""
        state = {**trainer.list_state(), "loss_sum": self.loss_sum}
        if checkpoint is not None and (found := checkpoint.load()) is not None:
            tensors, content = found
            with torch.no_grad():
                for name, value in state.items():
                    value.copy_(tensors[name])
            self.step, self.history, self.initial = content["step"], content["history"], content["initial"]
        step = torch.tensor(self.step, device=trainer.device)
        trainer.worker.agree([step, *state.values()])
        self.step = trainer.average.updates = int(step)

    def count(self, loss: Tensor, last: bool) -> float | None:
        """Add the loss of a step; returns the mean whenever a row of the history is complete.

        Raises:
            DivergedError: that mean is not finite.
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


def _train(trainer: DdpmTrainer, progress: _Progress) -> Iterator[bool]:
    """Take the steps that are left; yields after each, whether it was the last.

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
                bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
            yield last


def _train_and_save(trainer: DdpmTrainer, progress: _Progress, checkpoint: Checkpoint) -> None:
    """Train to the last step; snapshots go to the checkpoint's files.

    Raises:
        DivergedError: the loss is not finite.
        SystemExit: the process was asked to end; the state is saved.
    """
    with _Signals() as signals:
        for last in _train(trainer, progress):
            if last or progress.step % trainer.run.training.snapshot_every == 0:
                write_weights(checkpoint.files / name_snapshot(progress.step), trainer.average.averages)
            if signals.number or (checkpoint.is_due() and not last):
                progress.save(trainer, checkpoint)
            if signals.number:
                sys.exit(128 + signals.number)


def _write_failure(progress: _Progress, trainer: DdpmTrainer, reason: str, files: Path) -> None:
    """What is left of a run that failed."""
    for path in files.glob("ema-*"):
        path.unlink()
    epoch = (progress.step - 1) // trainer.steps_per_epoch + 1
    write_json(files / "failure.json", {"epoch": epoch, "step": progress.step, "reason": reason})


def write_imported(run: DdpmRun, averages: dict[str, Tensor], train: Split, device: str, out: Path) -> None:
    """Write what `train_ddpm` does for weights from elsewhere: one snapshot after 0 steps, no history."""
    network = make_unet(run, train.images.shape[1])
    network.load_state_dict(averages)
    out.mkdir(parents=True, exist_ok=True)
    trained = measure_averages(run, averages, torch.from_numpy(train.images[:_AWARENESS_IMAGES]).to(device))
    write_json(out / "level_awareness.json", {"trained": asdict(trained)})
    write_weights(out / name_snapshot(0), averages)
    write_history(out / "history.tsv", ["step", "loss"], [])
    write_run(out / "run.json", run, count_params(network))


def train_ddpm(
    run: DdpmRun,
    train: Split,
    compute: Compute,
    device: str,
    out: Path,
    checkpoint: Checkpoint,
    worker: Worker = _ALONE,
) -> str | None:
    """Train one U-Net, or go on with it where a checkpoint has it; returns None, or why the run failed.

    Writes to `out`, as a whole and at the end: run.json, history.tsv, level_awareness.json, raw weights, and averaged
    weights of every snapshot; of a run that failed run.json, history.tsv and failure.json.

    Args:
        checkpoint: not yet entered; the leading worker alone does.

    Raises:
        ValueError: the training split is smaller than a batch, a batch cannot be shared evenly by the workers, or
            another process trains this run.
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
        except DivergedError as error:  # which the leader has as well, and writes down
            failure = str(error)
        return failure
    with checkpoint:
        progress.load(trainer, checkpoint)
        files = checkpoint.files
        try:
            _train_and_save(trainer, progress, checkpoint)
            awareness = {"initial": progress.initial, "trained": asdict(trainer.measure_awareness())}
            write_json(files / "level_awareness.json", awareness)
            write_weights(files / "last.safetensors", dict(trainer.network.named_parameters()))
        except DivergedError as error:
            failure = str(error)
            _write_failure(progress, trainer, failure, files)
        write_run(files / "run.json", run, count_params(trainer.network))
        write_history(files / "history.tsv", ["step", "loss"], progress.history)
        checkpoint.finish(out)
    return failure
