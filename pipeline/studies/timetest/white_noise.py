"""The time test of a U-Net: DDPM's own loss on white noise, from which no level can be read."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from pipeline.compute.seeding import make_generator, seed_global
from pipeline.diffusion.loss import Denoiser, noise_loss
from pipeline.diffusion.schedule import DiscreteSchedule, make_schedule
from pipeline.studies.ddpm.level_awareness import measure_level_awareness
from pipeline.studies.ddpm.unet import UNet
from pipeline.studies.timetest.score import Outcome, Score, average_share, fit, score_outputs
from pipeline.studies.timetest.study import NoiseRun, TimetestTraining

_TEST_IMAGES, _TEST_SEED = 64, 12345
_GRID = 20
"""Levels of the score."""


def find_optima(schedule: DiscreteSchedule) -> tuple[float, float]:
    """Noise loss of the best network that is told the level, and of the best one that is not; exact.

    With x_0 ~ N(0, I) and alpha^2 + sigma^2 = 1, x_t ~ N(0, I) at every level: nothing about the level is in x_t. The
    told optimum is E[noise | x, t] = sigma_t x, with the loss alpha_t^2; the blind one is its mean over the levels,
    with the loss 1 - (mean sigma)^2. Their difference is the variance of sigma over the levels.
    """
    sigma = schedule(torch.arange(schedule.levels)).sigma
    return (1 - sigma.square()).mean().item(), 1 - sigma.mean().item() ** 2


def _measure_share(network: UNet, x: Tensor) -> float:
    """Share of variance that the level makes behind the sites' norms, mean over the blocks; x [B, 1, H, W]."""
    exact = deepcopy(network).double()
    return average_share(measure_level_awareness(exact, x.double(), network.levels // 2).block_share)


@torch.no_grad()
def score_denoiser(denoiser: Denoiser, schedule: DiscreteSchedule, x: Tensor) -> Score:
    """Score a denoiser (x, level) on noise x [B, 1, H, W], the same at the middles of 20 equal parts of the levels."""
    levels = torch.arange(_GRID) * schedule.levels // _GRID + schedule.levels // (2 * _GRID)
    outputs = torch.stack([denoiser(x, level.float()[None]) for level in levels])
    return score_outputs(outputs, schedule(levels).sigma[:, None, None, None, None] * x.double())


def draw_inputs(image_size: int) -> Tensor:
    """The noise [B, 1, H, W] on which every network is scored."""
    generator = torch.Generator().manual_seed(_TEST_SEED)
    return torch.randn(_TEST_IMAGES, 1, image_size, image_size, generator=generator)


def learn_noise(
    network: nn.Module, schedule: DiscreteSchedule, image_size: int, training: TimetestTraining, seed: int
) -> list[float]:
    """Train a denoiser (x, level) on white noise; returns the loss of each step.

    Raises:
        MeasureError: the loss is not finite.
    """
    shape = (training.batch_size, 1, image_size, image_size)
    generator = make_generator("cpu", seed, "batches")
    strata = torch.arange(training.batch_size)

    def compute_loss(step: int) -> Tensor:
        seed_global(seed, "dropout", step)
        data, noise = (torch.randn(shape, generator=generator) for _ in range(2))
        # Stratified: one level from each part of the range, so that the loss varies less from step to step.
        place = (strata + torch.rand(len(strata), generator=generator)) / len(strata)
        level = (place * schedule.levels).long().clamp(max=schedule.levels - 1)
        return noise_loss(network, schedule, data, level, noise)

    return fit(network.train(), compute_loss, training)


def run_noise_test(run: NoiseRun) -> Outcome:
    """Train and score a U-Net.

    The score compares with the told optimum sigma_t x, not with the noise: no noise is in it. Its inputs are the same
    at every level, which is right as x_t has the same distribution at every level.

    Raises:
        MeasureError: the loss is not finite.
    """
    size, schedule = run.task.image_size, make_schedule(run.diffusion)
    seed_global(run.seed, "initialisation")
    network = UNet(run.network, 1, size, schedule.levels)
    network.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
    x = draw_inputs(size)
    share_initial = _measure_share(network, x)
    losses = learn_noise(network, schedule, size, run.training, run.seed)
    network.eval()
    told, blind = find_optima(schedule)
    return Outcome(
        score=score_denoiser(network, schedule, x),
        told=told,
        blind=blind,
        losses=losses,
        share_initial=share_initial,
        share=_measure_share(network, x),
        num_params=sum(value.numel() for value in network.parameters()),
    )
