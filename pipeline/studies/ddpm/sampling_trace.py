"""The golden trace of sampling: a digest of two images sampled on the CPU, with initial weights."""

import torch

from pipeline.run.outputs import digest_tensors
from pipeline.schema.compute import Compute
from pipeline.schema.diffusion import Sampling
from pipeline.studies.ddpm.sampler import DdpmSampler
from pipeline.studies.ddpm.study import DdpmRun
from pipeline.studies.ddpm.trainer import initialise_unet

_STEPS = 2


def trace_sampling(run: DdpmRun, sampling: Sampling) -> str:
    """Digest of two images with one channel, sampled in two steps from the run's initial weights."""
    sampler = DdpmSampler(run, sampling.model_copy(update={"steps": _STEPS}), 1, Compute(device="cpu"), "cpu")
    sampler.network.load_state_dict(initialise_unet(run, 1, "cpu").state_dict())
    return digest_tensors({"images": sampler.sample(torch.arange(2))})
