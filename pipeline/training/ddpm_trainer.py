"""One diffusion model in training: a step of its optimiser, its averages, its level-awareness."""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.data.arrays import Split
from pipeline.data.batches import flip_randomly, order_images, scale_images
from pipeline.diffusion.loss import noise_loss
from pipeline.diffusion.path import add_noise
from pipeline.diffusion.schedule import make_schedule
from pipeline.networks.level_awareness import LevelAwareness, measure_level_awareness
from pipeline.networks.unet import make_unet
from pipeline.schema.compute import Compute
from pipeline.schema.ddpm import DdpmRun
from pipeline.training.ema import ExponentialMovingAverage
from pipeline.training.seeding import make_generator, seed_global
from pipeline.training.workers import Worker

AWARENESS_IMAGES = 32
ALONE = Worker()


@torch.no_grad()
def measure_averages(run: DdpmRun, averages: dict[str, Tensor], images: Tensor) -> LevelAwareness:
    """Level-awareness of averaged weights on noisy images of the middle level.

    Args:
        images: uint8 [N, C, H, W] on the device; the first ones are used.
    """
    x = scale_images(images[:AWARENESS_IMAGES]) * 2 - 1
    level = run.diffusion.levels // 2
    noise = torch.randn(x.shape, generator=make_generator("cpu", run.seed, "awareness")).to(x.device)
    schedule = make_schedule(run.diffusion, str(x.device))
    network = make_unet(run, x.shape[1]).to(x.device)
    network.load_state_dict(averages)
    noisy = add_noise(schedule(torch.full((len(x),), level, device=x.device)), x, noise)
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
        """The images of an epoch in their order, as indices on the device; what fills no batch is left out.

        Differs: score_sde_pytorch repeats the split without end and shuffles within a window of 10,000 images.
        """
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
        for group in self.optimiser.param_groups:  # score_sde's warm-up: the first step has rate 0
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
