"""Exponential moving average of a network's parameters."""

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Averages of a network's parameters: average = d average + (1 - d) parameter.

    In update n, counted from 1, d = min(decay, (1 + n) / (10 + n)). Source: score_sde_pytorch, models/ema.py.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.parameters = dict(network.named_parameters())
        self.averages = {name: value.detach().clone() for name, value in self.parameters.items()}
        self._pairs: tuple[list[Tensor], list[Tensor]] = (list(self.averages.values()), list(self.parameters.values()))

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages; call it after each optimiser step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(*self._pairs, 1 - decay)
