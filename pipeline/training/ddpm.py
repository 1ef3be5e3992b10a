"""Training of the diffusion model (facts 3.3)."""

from pathlib import Path

import torch
from torch import Tensor

from pipeline.data.arrays import Split
from pipeline.data.batches import flip_randomly, order_images, scale_images
from pipeline.diffusion.loss import noise_loss
from pipeline.diffusion.schedule import make_schedule
from pipeline.networks.unet import UNet
from pipeline.schema.compute import Compute
from pipeline.schema.ddpm import DdpmRun
from pipeline.training.ema import ExponentialMovingAverage
from pipeline.training.outputs import check_finite, count_params, write_history, write_run, write_weights
from pipeline.training.progress import show_progress
from pipeline.training.seeding import make_generator, seed_global

_HISTORY_ROWS = 200  # at most, so that plots of many runs stay small


class DdpmTrainer:
    """One U-Net, its optimiser and the training images on the device; `step` is one optimiser step.

    Args:
        train: the training split.
        device: `cpu` or `cuda`.

    Raises:
        ValueError: the training split is smaller than a batch.
    """

    def __init__(self, run: DdpmRun, train: Split, compute: Compute, device: str) -> None:
        self.run, self.device, training = run, device, run.training
        self.steps_per_epoch = len(train.images) // training.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(f"batch_size = {training.batch_size}: the training split has {len(train.images)} images")
        seed_global(run.seed, "initialisation")
        self.network = UNet(run.network, train.images.shape[1], train.images.shape[2]).to(device)
        self.network.train()
        if compute.compile:
            self.network.compile(dynamic=False)
        self.average = ExponentialMovingAverage(self.network, training.ema_decay)
        self.optimiser = torch.optim.Adam(self.network.parameters(), training.learning_rate)
        self.schedule = make_schedule(run.diffusion.levels, run.diffusion.beta_min, run.diffusion.beta_max)
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bfloat16")
        self.images = torch.from_numpy(train.images).to(device)

    def order(self, epoch: int) -> Tensor:
        """The images of an epoch in their order, as indices on the device; what fills no batch is left out."""
        generator = make_generator("cpu", self.run.seed, "order", epoch)
        return order_images(len(self.images), generator).to(self.device)

    def step(self, step: int, batch: Tensor) -> Tensor:
        """Optimiser step number `step`, from 0, on the images at the indices `batch`; returns the loss."""
        training, seed = self.run.training, self.run.seed
        x = scale_images(self.images[batch]) * 2 - 1
        if training.flip:
            x = flip_randomly(x, make_generator(self.device, seed, "augmentation", step))
        seed_global(seed, "dropout", step)
        with self.autocast:
            loss = noise_loss(self.network, self.schedule, x, make_generator(self.device, seed, "noise", step))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimiser.param_groups:  # the base code's warm-up: the first step has rate 0
            group["lr"] = training.learning_rate * (min(step / training.warmup, 1.0) if training.warmup else 1.0)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), training.clip)
        self.optimiser.step()
        self.average.update(self.network)
        return loss.detach()


def train_ddpm(run: DdpmRun, train: Split, compute: Compute, device: str, out: Path) -> None:
    """Train one U-Net and write run.json, history.tsv, and raw and averaged weights to `out`.

    Raises:
        ValueError: the training split is smaller than a batch.
        DivergedError: the loss is not finite.
    """
    trainer = DdpmTrainer(run, train, compute, device)
    training, network = run.training, trainer.network
    interval = -(-training.steps // _HISTORY_ROWS)
    history: list[dict[str, float | int | None]] = []
    loss_sum = torch.zeros((), device=device)
    order = torch.empty(0, dtype=torch.long)
    bar = show_progress(training.steps, f"ddpm {run.arm}", "step")
    for step in range(training.steps):
        epoch, index = divmod(step, trainer.steps_per_epoch)
        if index == 0:
            order = trainer.order(epoch)
        loss_sum += trainer.step(step, order[index * training.batch_size : (index + 1) * training.batch_size])
        bar.update()
        if (step + 1) % interval == 0 or step + 1 == training.steps:
            steps = (step % interval) + 1
            mean = check_finite(loss_sum.item() / steps, f"step {step + 1}: the loss")
            history.append({"step": step + 1, "loss": mean})
            loss_sum.zero_()
            bar.set_postfix(loss=f"{mean:.4f}")
    bar.close()
    out.mkdir(parents=True, exist_ok=True)
    write_weights(out / "last.safetensors", dict(network.named_parameters()))
    write_weights(out / "ema.safetensors", trainer.average.averages)
    write_history(out / "history.tsv", ["step", "loss"], history)
    write_run(out / "run.json", run, count_params(network))
