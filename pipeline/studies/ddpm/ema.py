"""Moving averages of a network's parameters: of constant decay, and power functions."""

import torch
from torch import Tensor, nn

from pipeline.diffusion.power_average import TRACKED, PowerAverage
from pipeline.studies.ddpm.study import DdpmTraining


class ExponentialMovingAverage:
    """Averages of a network's parameters: average = d average + (1 - d) parameter.

    In update n, counted from 1, d = min(decay, (1 + n) / (10 + n)). Source: score_sde_pytorch, models/ema.py.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.parameters = dict(network.named_parameters())
        self.averages = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.stored: dict[float, dict[str, Tensor]] = {}
        """Averages of other lengths that a snapshot holds too."""
        self._pairs: tuple[list[Tensor], list[Tensor]] = (list(self.averages.values()), list(self.parameters.values()))

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages; call it after each optimiser step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(*self._pairs, 1 - decay)


class PowerAverages:
    """Power-function averages of two lengths (Karras et al. 2024, EDM2, section 3.1)."""

    def __init__(self, network: nn.Module) -> None:
        parameters = dict(network.named_parameters())
        self._tracked = {length: PowerAverage(parameters, length) for length in TRACKED}
        *others, last = self._tracked.items()
        self.averages = last[1].averages
        """Of the greatest length: those that are sampled."""
        self.stored = {length: average.averages for length, average in others}
        """Of the others, which snapshots hold too."""

    @property
    def updates(self) -> int:
        """How many updates the averages hold."""
        return next(iter(self._tracked.values())).step

    @updates.setter
    def updates(self, count: int) -> None:
        for average in self._tracked.values():
            average.step = count

    def update(self) -> None:
        """Update the averages; call it after each optimiser step."""
        for average in self._tracked.values():
            average.update()


def make_average(network: nn.Module, training: DdpmTraining) -> ExponentialMovingAverage | PowerAverages:
    """The averages that a training keeps."""
    if training.ema == "power":
        return PowerAverages(network)
    return ExponentialMovingAverage(network, training.ema_decay)
