"""The schedules and grids of the study `full`, by name."""

import torch
from torch import Tensor

from pipeline.diffusion.circle import cosine_path, exploding_path, log_snr_path, noise_path, preserve
from pipeline.diffusion.continuous import VpLinear, linear_path
from pipeline.diffusion.path import Schedule

_SCHEDULES: dict[str, Schedule] = {
    "cosine": cosine_path,
    "noise": noise_path,
    "straight": preserve(linear_path),
    "vp_linear": VpLinear(beta_min=0.1, beta_max=20.0),
    "log_snr": log_snr_path,
    "ve": preserve(exploding_path),
}


def find_schedule(name: str) -> Schedule:
    """The variance-preserving schedule of that name."""
    return _SCHEDULES[name]


def space_times(steps: int, truncation: float) -> Tensor:
    """Times [steps + 1], float64, evenly from 1 - truncation to truncation."""
    return truncation + (1 - 2 * truncation) * torch.arange(steps, -1, -1, dtype=torch.float64) / steps
