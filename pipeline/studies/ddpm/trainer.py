"""One diffusion model in training: optimiser steps, averaged weights and their state."""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.compute.seeding import make_generator, seed_global
from pipeline.data.arrays import Split
from pipeline.data.batches import flip_randomly, order_images, scale_images
from pipeline.diffusion.learning_rate import decay_rate
from pipeline.diffusion.schedule import make_schedule
from pipeline.layers.mp_conv import force_weights
from pipeline.run.workers import Worker
from pipeline.schema.compute import Compute
from pipeline.studies.ddpm.denoiser import DdpmDenoiser, make_denoiser, make_output
from pipeline.studies.ddpm.ema import make_average
from pipeline.studies.ddpm.study import DdpmRun

ALONE = Worker()


def name_purpose(run: DdpmRun, *parts: str | int) -> tuple[str | int, ...]:
    """The purpose of a stream of random numbers; a replicate (control arm) has streams of its own."""
    return (*parts, "replicate", run.network.replicate) if run.network.replicate else parts


def initialise_denoiser(run: DdpmRun, channels: int, device: str) -> DdpmDenoiser:
    """The network with initial weights from the run's seed."""
    seed_global(run.seed, *name_purpose(run, "initialisation"))
    return make_denoiser(run, channels).to(device)


class DdpmTrainer:
    """A U-Net, its optimiser and the training images on the device; `step` is one optimiser step.

    The random numbers of a step depend on (seed, purpose, step) alone, so a checkpoint needs no generator state. Every
    worker draws them for the whole batch and takes its part, so the number of workers changes those of dropout only.

    Args:
        train: the training split.
        device: `cpu` or `cuda`.
        worker: this process among those that share each batch.

    Raises:
        ValueError: the training split is smaller than a batch, or a batch cannot be shared evenly.
    """

    def __init__(self, run: DdpmRun, train: Split, compute: Compute, device: str, worker: Worker = ALONE) -> None:
        self.run, self.device, self.worker, training = run, device, worker, run.training
        self.steps_per_epoch = len(train.images) // training.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(f"batch_size = {training.batch_size}: the training split has {len(train.images)} images")
        if training.batch_size % worker.count:
            raise ValueError(
                f"batch_size = {training.batch_size} is not divisible by {worker.count}, the GPUs at work; "
                "set resources.gpus in params.yaml"
            )
        self.network = initialise_denoiser(run, train.images.shape[1], device)
        self.layout = torch.channels_last if training.channels_last else torch.contiguous_format
        self.network.to(memory_format=self.layout).train()
        if compute.compile:
            self.network.compile(dynamic=False)
        self.output, self.average = make_output(run), make_average(self.network, training)
        self.parameters = list(self.network.parameters())
        self.optimiser = torch.optim.Adam(self.parameters, training.learning_rate, fused=training.fused)
        for value in self.parameters:  # Adam creates them in its first step; a state may be loaded before
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
        """The images of an epoch in random order, as indices [N] on the device; an incomplete last batch is not used.

        Differs: score_sde_pytorch repeats the split endlessly and shuffles within a window of 10,000 images.
        """
        generator = make_generator("cpu", self.run.seed, *name_purpose(self.run, "order", epoch))
        return order_images(len(self.images), generator).to(self.device)

    def draw(self, step: int, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a step's images [B, C, H, W] in [-1, 1], levels [B] and noise, and return this worker's part."""
        run = self.run
        x = scale_images(self.images[batch]) * 2 - 1
        if run.training.flip:
            x = flip_randomly(x, make_generator(self.device, run.seed, *name_purpose(run, "augmentation", step)))
        generator = make_generator(self.device, run.seed, *name_purpose(run, "noise", step))
        level = torch.randint(0, self.schedule.levels, (len(x),), generator=generator, device=self.device)
        noise = torch.randn(x.shape, generator=generator, device=self.device)
        own = self.worker.share(len(x))  # after drawing: all workers see the same random numbers
        return x[own].contiguous(memory_format=self.layout), level[own], noise[own]

    def step(self, step: int, batch: Tensor) -> Tensor:
        """Take optimiser step number `step`, from 0, on the images at the indices `batch`; returns their mean loss.

        Source: score_sde_pytorch, losses.py: loss, learning rate, clipping, Adam, average, in this order.
        """
        training = self.run.training
        x, level, noise = self.draw(step, batch)
        seed_global(
            self.run.seed, *name_purpose(self.run, "dropout", step, *([self.worker.rank] if self.worker.rank else []))
        )
        if self.run.network.magnitude == "forced":
            force_weights(self.network)
        with self.autocast:
            loss = self.output.measure_loss(self.denoiser, self.schedule, x, level, noise)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimiser.param_groups:  # score_sde's warm-up: learning rate 0 in the first step
            rate = training.learning_rate * (min(step / training.warmup, 1.0) if training.warmup else 1.0)
            group["lr"] = decay_rate(rate, step, warmup=0, start=training.rate_decay)
        torch.nn.utils.clip_grad_norm_(self.parameters, training.clip, foreach=True)
        self.optimiser.step()
        self.average.update()
        return self.worker.average(loss.detach())

    def list_buffers(self) -> dict[str, Tensor]:
        """What the weights hold beside parameters, by name; nothing in our U-Net."""
        return {name: value for name, value in self.network.state_dict().items() if name not in self.average.averages}

    def list_state(self) -> dict[str, Tensor]:
        """The tensors that a step changes, by name. Write to them to restore a state."""
        state = {f"ema.{name}": value for name, value in self.average.averages.items()}
        state |= {f"buffer.{name}": value for name, value in self.list_buffers().items()}
        for length, averages in self.average.stored.items():
            state |= {f"ema-{length}.{name}": value for name, value in averages.items()}
        for name, value in self.network.named_parameters():
            state[f"raw.{name}"] = value.data
            state |= {f"adam.{key}.{name}": part for key, part in self.optimiser.state[value].items()}
        return state
