"""Training of the diffusion model (facts 3.3)."""

from pathlib import Path

import torch

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


def train_ddpm(run: DdpmRun, train: Split, compute: Compute, device: str, out: Path) -> None:
    """Train one U-Net and write run.json, history.tsv, and raw and averaged weights to `out`.

    Raises:
        ValueError: the training split is smaller than a batch.
        DivergedError: the loss is not finite.
    """
    training, seed = run.training, run.seed
    per_epoch = len(train.images) // training.batch_size
    if per_epoch == 0:
        raise ValueError(f"batch_size = {training.batch_size}: the training split has {len(train.images)} images")
    seed_global(seed, "initialisation")
    network = UNet(run.network, train.images.shape[1], train.images.shape[2]).to(device)
    network.train()
    if compute.compile:
        network.compile(dynamic=False)
    average = ExponentialMovingAverage(network, training.ema_decay)
    optimiser = torch.optim.Adam(network.parameters(), training.learning_rate)
    schedule = make_schedule(run.diffusion.levels, run.diffusion.beta_min, run.diffusion.beta_max)
    autocast = torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bfloat16")

    images = torch.from_numpy(train.images).to(device)
    interval = -(-training.steps // _HISTORY_ROWS)
    history: list[dict[str, float | int | None]] = []
    loss_sum = torch.zeros((), device=device)
    order = torch.empty(0, dtype=torch.long)
    bar = show_progress(training.steps, f"ddpm {run.arm}", "step")
    for step in range(training.steps):
        epoch, index = divmod(step, per_epoch)
        if index == 0:
            order = order_images(len(images), make_generator("cpu", seed, "order", epoch)).to(device)
        batch = order[index * training.batch_size : (index + 1) * training.batch_size]
        x = scale_images(images[batch]) * 2 - 1
        if training.flip:
            x = flip_randomly(x, make_generator(device, seed, "augmentation", step))
        seed_global(seed, "dropout", step)
        with autocast:
            loss = noise_loss(network, schedule, x, make_generator(device, seed, "noise", step))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimiser.param_groups:  # the base code's warm-up: the first step has rate 0
            group["lr"] = training.learning_rate * (min(step / training.warmup, 1.0) if training.warmup else 1.0)
        torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip)
        optimiser.step()
        average.update(network)
        loss_sum += loss.detach()
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
    write_weights(out / "ema.safetensors", average.averages)
    write_history(out / "history.tsv", ["step", "loss"], history)
    write_run(out / "run.json", run, count_params(network))
