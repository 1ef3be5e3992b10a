"""Problems with known answers, and networks to try them on."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.schema.study import find_study, load_study_spec, resolve_later, resolve_run
from pipeline.studies.ddpm.study import DdpmNetwork
from pipeline.studies.node.study import NodeNetwork

ROOT = Path(__file__).resolve().parent.parent


def resolve(study: str, case: str = "digits", arm: str = "baseline", seed: int = 0) -> Any:
    """A run of the committed specs."""
    return resolve_run(find_study(study), load_study_spec(ROOT, study), case, arm, seed)[0]


def later(case: str, name: str) -> Any:
    """Settings of a later stage of the DDPM study: sampling, evaluation."""
    return resolve_later(find_study("ddpm"), load_study_spec(ROOT, "ddpm"), case)[name]


def node_network(dataset: str = "digits", arm: str = "baseline", **fields: Any) -> NodeNetwork:
    """A network of the NODE study, with some fields replaced."""
    network = resolve("node", dataset, arm).network
    return NodeNetwork.model_validate({**network.model_dump(), **fields})


def ddpm_network(dataset: str = "digits", arm: str = "baseline", **fields: Any) -> DdpmNetwork:
    """A network of the DDPM study, with some fields replaced."""
    network = resolve("ddpm", dataset, arm).network
    return DdpmNetwork.model_validate({**network.model_dump(), **fields})


def count(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(value.numel() for value in network.parameters())


class Rotation(nn.Module):
    """dx/dt = speed J x, whose flow over time 1 turns the plane by `speed` radians."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = nn.Parameter(torch.tensor(speed, dtype=torch.float64))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.speed * torch.stack([-x[..., 1], x[..., 0]], -1)


def gaussian_denoiser(alphas_bar: Tensor, mean: float, variance: float, levels_of: Any) -> Any:
    """The optimal prediction of the noise for data drawn from N(mean, variance), pixel by pixel.

    For x = a y + s e with a^2 = alpha_bar, s^2 = 1 - alpha_bar: E[e | x] = s (x - a mean) / (a^2 variance + s^2).
    """

    def denoise(x: Tensor, label: Tensor) -> Tensor:
        alpha_bar = alphas_bar[levels_of(label)].view(-1, 1, 1, 1).to(x.dtype)
        return (1 - alpha_bar).sqrt() * (x - alpha_bar.sqrt() * mean) / (alpha_bar * variance + 1 - alpha_bar)

    return denoise
