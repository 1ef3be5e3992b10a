"""The magnitude-preserving convolution and linear layer, and forced weight normalisation.

Source: Karras et al. 2024, EDM2 (arXiv 2312.02696), equations 47 and 66.

Two factors sqrt(N) stand in it, N = weights of one output, and do different jobs. `normalise` divides by the root mean
square, so a row of the *parameter* has the norm sqrt(N): its entries have the size 1, and Adam's learning rate is a
relative step. The layer computes with row / sqrt(N), whose norm is 1, so that the *output* has the input's variance.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.layers.magnitude import normalise


class MpConv(nn.Module):
    """A convolution [B, N, H, W], or a linear layer [B, N], that keeps the variance of its input (equation 47).

    It computes with gain w / sqrt(N), each output's w at a mean square of 1. Has no bias: give the image a channel of
    ones. The loss does not depend on the size of w, so its gradient is orthogonal to w. Initial weights are N(0, 1),
    from torch's global generator.

    Args:
        kernel: side of the kernel; 0: a linear layer.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 0) -> None:
        super().__init__()
        assert kernel % 2 or not kernel
        self.kernel = kernel
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, *[kernel, kernel][: 2 * bool(kernel)]))

    def make_weight(self) -> Tensor:
        """The effective weight at a gain of 1; each output's has a norm of 1."""
        fan_in = self.weight[0].numel()
        return _normalise_rows(self.weight) / math.sqrt(fan_in)

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        weight = self.make_weight() * gain
        if not self.kernel:
            return functional.linear(x, weight)
        return functional.conv2d(x, weight, padding=self.kernel // 2)


def _normalise_rows(weight: Tensor) -> Tensor:
    return normalise(weight, tuple(range(1, weight.ndim)))


@torch.no_grad()
def force_weights(network: nn.Module) -> None:
    """Forced weight normalisation: each stored w gets a mean square of 1 (equation 66).

    Without it Adam's steps, orthogonal to w, make w longer, and the relative step shorter, without end. Differs: the
    paper does it within each forward pass of a training; a call before each step is the same, and a forward pass then
    never changes weights, neither in evaluation nor of averaged ones.
    """
    for part in network.modules():
        if isinstance(part, MpConv):
            part.weight.copy_(_normalise_rows(part.weight))
