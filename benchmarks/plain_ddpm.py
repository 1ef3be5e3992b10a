"""The plain construction of a diffusion model, and the comparison of ours with it.

The peer: diffusers' UNet2DModel in the training loop of diffusers' example for unconditional generation (add_noise,
mse_loss, clip_grad_norm_, an optimiser, EMAModel) with our recipe's Adam and rates, and in the sampling loop of its
DDPMPipeline. Both sides get the same architecture, weights, images, precision, threads and allocator.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional

from pipeline.data.arrays import Split
from pipeline.data.batches import scale_images
from pipeline.diffusers.config import write_config
from pipeline.diffusers.exports import write_scheduler
from pipeline.diffusers.weights import to_diffusers
from pipeline.diffusion.loss import noise_loss
from pipeline.diffusion.noise import draw_noise
from pipeline.diffusion.sample import sample_images
from pipeline.diffusion.schedule import make_schedule
from pipeline.layers.flops import count_flops
from pipeline.schema.compute import Compute
from pipeline.schema.diffusion import Sampling
from pipeline.studies.ddpm.study import DdpmRun
from pipeline.studies.ddpm.trainer import DdpmTrainer

_NEAR_ZERO = 1e-4


def make_trainer(run: DdpmRun, channels: int, precision: str, device: str, compiled: bool = False) -> DdpmTrainer:
    """Our side, on random images; a batch is all of them."""
    shape = (run.training.batch_size, channels, run.training.image_size, run.training.image_size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    compute = Compute(
        device="cuda" if device == "cuda" else "cpu",
        precision="bfloat16" if precision == "bfloat16" else "float32",
        tf32=False,
        deterministic=True,
        compile=compiled,
        portable=False,
        threads=torch.get_num_threads(),
    )
    trainer = DdpmTrainer(run, Split(images, np.zeros(len(images), dtype=np.int64), 1), compute, device)
    generator = torch.Generator(device).manual_seed(3)
    with torch.no_grad():  # layers that begin near zero would hide whether the sides agree
        for value in trainer.network.parameters():
            if value.ndim > 1 and value.abs().max() < _NEAR_ZERO:
                value.normal_(std=0.02, generator=generator)
    return trainer


def sample_ours(trainer: DdpmTrainer, sampling: Sampling, noise: Tensor, same: bool = False) -> Tensor:
    """Our sampler from the trainer's network; images in [-1, 1], roughly.

    Args:
        same: whether the noise of each step is the peer's, to compare the images, or drawn as our sampler draws it.
    """
    numbers = torch.arange(len(noise), device=noise.device)
    generator = torch.Generator(noise.device).manual_seed(1)

    def draw(index: int) -> Tensor:
        if index == 0:
            return noise
        if same:
            return torch.randn(noise.shape, generator=generator, device=noise.device)
        return draw_noise(1, numbers, index, tuple(noise.shape[1:]))

    with trainer.autocast:
        return sample_images(trainer.network, make_schedule(trainer.run.diffusion), sampling, draw)


def find_our_loss(trainer: DdpmTrainer, x: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """The loss of our training on images x in [-1, 1]."""
    with trainer.autocast:
        return noise_loss(trainer.network, trainer.schedule, x, level, noise)


class PlainTrainer:
    """The peer, with the weights of our trainer's network."""

    def __init__(self, ours: DdpmTrainer, sampling: Sampling) -> None:
        run = ours.run
        self.training, self.sampling, self.device = run.training, sampling, ours.device
        weights = {name: value.detach().contiguous() for name, value in ours.network.state_dict().items()}
        channels, size = weights["conv_in.weight"].shape[1], run.training.image_size
        self.unet = UNet2DModel.from_config(write_config(run.network, channels, size))
        self.unet.load_state_dict(to_diffusers(weights, run.network, size))
        self.unet.to(self.device).train()
        self.scheduler = DDPMScheduler.from_config(write_scheduler(run.diffusion, sampling))
        self.optimiser = torch.optim.Adam(self.unet.parameters(), run.training.learning_rate)
        self.average = EMAModel(self.unet.parameters(), decay=run.training.ema_decay)
        self.autocast: AbstractContextManager[object] = ours.autocast
        self.x = scale_images(ours.images) * 2 - 1  # the example's loader does this beside the training

    def find_loss(self, x: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error of the predicted noise."""
        noisy = self.scheduler.add_noise(x, noise, level)
        with self.autocast:
            predicted = self.unet(noisy, level).sample
        return functional.mse_loss(predicted.float(), noise)

    def step(self) -> Tensor:
        """One optimiser step on all images; returns the loss."""
        noise = torch.randn(self.x.shape, device=self.device)
        level = torch.randint(0, self.scheduler.config.num_train_timesteps, (len(self.x),), device=self.device)
        return self.update(self.find_loss(self.x, level, noise))

    def update(self, loss: Tensor) -> Tensor:
        """What of a step comes after the loss; returns it."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), self.training.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = self.training.learning_rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.average.step(self.unet.parameters())
        return loss.detach()

    @torch.no_grad()
    def sample(self, noise: Tensor) -> Tensor:
        """The loop of DDPMPipeline; images in [-1, 1], roughly."""
        generator = torch.Generator(noise.device).manual_seed(1)
        self.scheduler.set_timesteps(self.sampling.steps)
        x = noise
        for level in self.scheduler.timesteps:
            with self.autocast:
                predicted = self.unet(x, level).sample
            x = self.scheduler.step(predicted.float(), level, x, generator=generator).prev_sample
        return x


@dataclass(frozen=True)
class Case:
    """What is compared: steps of training, or the sampling of a batch."""

    run: DdpmRun
    sampling: Sampling
    image_channels: int
    what: str
    """`training` or `sampling`."""


def compare_losses(ours: DdpmTrainer, plain: PlainTrainer) -> dict[str, float]:
    """The loss of both sides on the same images, levels and noise; dropout off, weights as they are."""
    x = plain.x
    generator = torch.Generator(x.device).manual_seed(2)
    level = torch.randint(0, ours.schedule.levels, (len(x),), generator=generator, device=x.device)
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    ours.network.eval()
    plain.unet.eval()
    with torch.no_grad():
        losses = {"plain": plain.find_loss(x, level, noise).item(), "ours": find_our_loss(ours, x, level, noise).item()}
    ours.network.train()
    plain.unet.train()
    return losses


class Clock:
    """Seconds of a piece of work, and on a GPU the memory that it needs at most."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        self.seconds: dict[str, list[float]] = {"plain": [], "ours": []}
        self.gigabytes: dict[str, float] = {}

    def time(self, name: str, work: Callable[[], object]) -> None:
        """Do the work once."""
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        work()
        if self.cuda:
            torch.cuda.synchronize()
            self.gigabytes[name] = torch.cuda.max_memory_allocated() / 1e9
        self.seconds[name].append(time.perf_counter() - start)


def compare(case: Case, precision: str, pairs: int, device: str, compiled: bool = False, warm_up: int = 1) -> dict:
    """Both sides alternating: median milliseconds, their ratio pair by pair, rates, and how far the sides agree."""
    ours = make_trainer(case.run, case.image_channels, precision, device, compiled)
    plain = PlainTrainer(ours, case.sampling)
    batch, size = case.run.training.batch_size, case.run.training.image_size
    losses = compare_losses(ours, plain)
    noise = torch.randn((batch, case.image_channels, size, size), device=device)
    indices, difference, done = torch.arange(batch, device=device), None, iter(range(1, 10**9))
    if case.what == "training":
        sides: dict[str, Callable[[], object]] = {
            "plain": plain.step,
            "ours": lambda: ours.step(next(done) + case.run.training.warmup, indices),
        }
    else:
        ours.network.eval()
        plain.unet.eval()
        sides = {"plain": lambda: plain.sample(noise), "ours": lambda: sample_ours(ours, case.sampling, noise)}
        images = plain.sample(noise)
        difference = ((images - sample_ours(ours, case.sampling, noise, same=True)).norm() / images.norm()).item()
    for _ in range(warm_up):
        for work in sides.values():
            work()
    clock = Clock(device)
    for _ in range(pairs):
        for name, work in sides.items():
            clock.time(name, work)
    seconds = {name: statistics.median(times) for name, times in clock.seconds.items()}
    ratios = sorted(p / o for p, o in zip(clock.seconds["plain"], clock.seconds["ours"], strict=True))
    flops = {name: count_flops(work) for name, work in sides.items()}
    return {
        "plain_ms": seconds["plain"] * 1000,
        "ours_ms": seconds["ours"] * 1000,
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
        "ours_images_per_second": batch / seconds["ours"],
        "ours_tflops": flops["ours"] / seconds["ours"] / 1e12,
        "flops": flops,
        "peak_gigabytes": clock.gigabytes,
        "loss": losses,
        "sample_difference": difference,
    }
