"""Exponential moving average of a network's parameters."""

import torch
from torch import nn


class ExponentialMovingAverage:
    """average = decay average + (1 - decay) parameters, in step n with decay min(decay, (1 + n) / (10 + n)).

    Source: score_sde_pytorch's models/ema.py (facts 3.3); n counts from 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.averages = {name: value.detach().clone() for name, value in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in network.named_parameters():
            self.averages[name].lerp_(value, 1 - decay)
