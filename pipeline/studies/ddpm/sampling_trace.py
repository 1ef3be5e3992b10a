"""The golden trace of sampling: a digest of two images on their way from noise, on the CPU."""

import torch
from torch import Tensor

from pipeline.compute.seeding import make_generator
from pipeline.diffusion.schedule import DiscreteSchedule
from pipeline.diffusion.trajectory import Trajectory
from pipeline.run.outputs import digest_tensors
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute
from pipeline.schema.diffusion import Sampling
from pipeline.studies.ddpm.sampler import DdpmSampler
from pipeline.studies.ddpm.study import DdpmRun
from pipeline.studies.ddpm.trainer import initialise_denoiser

_STEPS = 2
_SPREAD = 0.05
"""Of what is added to the initial weights, from which a U-Net predicts nearly zero whatever it computes before."""


class _Floats(Trajectory):
    """Keeps every step as it is, too: grey levels hide what is small, and after two steps most are black or white."""

    def __init__(self, schedule: DiscreteSchedule, sampling: Sampling) -> None:
        super().__init__(schedule, sampling)
        self.floats: list[Tensor] = []

    def watch(self, step: int, x: Tensor, noise: Tensor) -> None:
        super().watch(step, x, noise)
        self.floats += [x, noise]

    def finish(self, x: Tensor) -> None:
        super().finish(x)
        self.floats.append(x)


@torch.random.fork_rng(devices=[])
def trace_sampling(run: DdpmRun, sampling: Sampling) -> str:
    """What the code computes that samples this arm: two images of one channel, in two steps."""
    short = sampling.model_copy(update={"steps": _STEPS})
    try:
        sampler = DdpmSampler(run, short, 1, Compute(device="cpu"), "cpu")
    except SpecError as error:  # a user's own network, which takes no images of one channel
        return f"no trace: {error}"
    generator = make_generator("cpu", run.seed, "trace")
    weights = initialise_denoiser(run, 1, "cpu").state_dict()
    moved = {name: value + _SPREAD * torch.randn(value.shape, generator=generator) for name, value in weights.items()}
    sampler.network.load_state_dict(moved)
    seen = _Floats(sampler.schedule, short)
    images = sampler.sample(torch.arange(2), trajectory=seen)
    floats = {f"float{index}": value for index, value in enumerate(seen.floats)}
    return digest_tensors({"images": images, **seen.stack(), **floats})
