"""Convolutions with a timestep embedding: the sites of an ODE function."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.layers.activations import make_activation
from pipeline.layers.sinusoid import embed_sinusoidally
from pipeline.studies.node.derived import ode_width
from pipeline.studies.node.study import NodeNetwork

_KERNEL = 3


def encode_time(t: Tensor, network: NodeNetwork) -> Tensor:
    """The MLPs' input: t as [T, 1], or its sinusoidal embedding [T, C]; T is 1 for a scalar t.

    t is not scaled to 0..1000.
    """
    if network.embedding_input == "sinusoid":
        return embed_sinusoidally(t.view(-1), ode_width(network))
    return t.view(-1, 1)


def make_mlp(network: NodeNetwork, outputs: int) -> nn.Sequential:
    """An MLP from an encoded t to `outputs` values: Linear-activation-Linear, C hidden units."""
    width = ode_width(network)
    inputs = width if network.embedding_input == "sinusoid" else 1
    activation = make_activation(network.activation if network.embedding_activation == "same" else "silu")
    return nn.Sequential(nn.Linear(inputs, width), activation, nn.Linear(width, outputs))


class TimedConv2d(nn.Module):
    """A 3x3 convolution of [B, C, H, W] plus timestep embeddings: Z = W * X + v_t + p_t (the paper's Equation 6).

    `time` chooses v_t. `concat` is ConcatConv: the kernel has one more input channel, for an input that is t at every
    pixel. By linearity this adds t v (the paper's Equations 2 to 4). v is constant in the interior; at a border of
    zeros it lacks the taps outside the image. `linear` is t v, constant over the whole image. `mlp` is MLP(t).

    Differs: reference codes concatenate the channel of t at every call. Here v is computed once per solve.
    """

    inside: Tensor

    def __init__(self, network: NodeNetwork, size: int) -> None:
        super().__init__()
        width = ode_width(network)
        self.network = network
        self.concat = network.time in ("concat", "concat+mlp")
        fan_in = (width + self.concat) * _KERNEL**2  # weights of the sites start within 1 / sqrt(fan_in)
        conv = nn.Conv2d(width + self.concat, width, _KERNEL)
        assert conv.bias is not None
        self.weight, self.bias = nn.Parameter(conv.weight.detach()), nn.Parameter(conv.bias.detach())
        self.v: nn.Parameter | None = None
        self.embed: nn.Sequential | None = None
        if network.time == "linear":
            # The standard deviation of ConcatConv's initial v, which is a sum of nine weights.
            self.v = nn.Parameter(torch.randn(width) * math.sqrt(_KERNEL**2 / (3 * fan_in)))
        if "mlp" in network.time and network.embedding_sites == "separate":
            self.embed = make_mlp(network, width)
        elif "mlp" in network.time:
            # The shared MLP comes first; each site adds its own linear layer.
            self.embed = nn.Sequential(make_activation(network.activation), nn.Linear(width, width))
        if network.weight_std is not None:
            self._widen(network.weight_std)
        if network.zero_bias in ("conv", "all"):
            nn.init.zeros_(self.bias)
        if network.zero_bias in ("time", "all") and self.embed is not None:
            zero_biases(self.embed)
        # [9, H W]: 1 where a tap of the kernel at a pixel is inside the image, else 0.
        ones = torch.ones(1, 1, size, size)
        taps = functional.unfold(self._pad(ones), _KERNEL)[0]
        self.register_buffer("inside", taps, persistent=False)
        self.size = size
        self.derived: tuple[Tensor, Tensor] | None = None

    def _widen(self, std: float) -> None:
        """Draw the initial weights with a given standard deviation (the paper's Figure 6)."""
        # Input channel 0 of a ConcatConv is t's.
        part = self.weight if self.network.weight_std_time or not self.concat else self.weight[:, 1:]
        with torch.no_grad():
            if self.network.weight_distribution == "normal":
                part.normal_(0, std)
            else:
                part.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std)  # has standard deviation std

    def _pad(self, x: Tensor) -> Tensor:
        return functional.pad(x, (1, 1, 1, 1), "circular" if self.network.padding == "circular" else "constant")

    def derive(self) -> tuple[Tensor, Tensor]:
        """Split a ConcatConv's kernel: W without the channel of t [C, C, 3, 3], and v [1, C, H, W] (Equation 4)."""
        # A sum, not a matrix product: waking threads for so small a product costs more.
        v = (self.weight[:, 0].flatten(1)[:, :, None] * self.inside).sum(1)  # [C, 9, 1] * [9, H W] to [C, H W]
        return self.weight[:, 1:].contiguous(), v.view(1, -1, self.size, self.size)

    def forward(self, t: Tensor, x: Tensor, encoded: Tensor | None = None, position: Tensor | None = None) -> Tensor:
        """Compute Z [B, C, H, W].

        Args:
            t: a scalar, or [B], one for each image. T below is 1 or B.
            encoded: the encoded t, or the output of the shared MLP; needed by MLPs only.
            position: p_t [T, 1, H, W], or its mean [T, 1, 1, 1].
        """
        weight: Tensor = self.weight
        t = t.view(-1, 1, 1, 1)
        offset = self.bias.view(1, -1, 1, 1)  # [1, C, 1, 1]; all that does not depend on X is summed here first
        if self.concat:
            weight, v = self.derived if self.derived is not None else self.derive()
            offset = torch.addcmul(offset, v, t)
        if self.v is not None:
            offset = torch.addcmul(offset, self.v.view(1, -1, 1, 1), t)
        if self.embed is not None:
            assert encoded is not None
            offset = offset + self.embed(encoded)[:, :, None, None]  # [T, C, 1, 1]
        if position is not None:
            offset = offset + position  # [T, C, H, W]
        if self.network.padding == "circular":
            z = functional.conv2d(self._pad(x), weight)
        else:
            z = functional.conv2d(x, weight, padding=1)
        return z.add_(offset)  # in place: the convolution's backward pass does not need its result


class Position(nn.Module):
    """The positional timestep embedding p_t [T, 1, H, W], shared by all channels (the paper's Equation 6).

    T is the number of times, 1 for a scalar t. Under position_mean: its mean over pixels [T, 1, 1, 1].
    """

    def __init__(self, network: NodeNetwork, size: int) -> None:
        super().__init__()
        self.size, self.mean = size, network.position_mean
        self.p: nn.Parameter | None = None
        self.embed: nn.Sequential | None = None
        if network.position == "mlp":
            self.embed = make_mlp(network, size * size)
            if network.zero_bias in ("time", "all"):
                zero_biases(self.embed)
            return
        p = torch.empty(1, 1, size, size)
        fan_in = _KERNEL**2 * (ode_width(network) + 1)
        if network.position_init == "normal":
            p.normal_(0, _KERNEL / math.sqrt(3 * fan_in))  # the standard deviation of ConcatConv's initial v
        elif network.position_init == "uniform":
            p.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        else:
            p.fill_(0.0 if network.position_init == "zeros" else 1.0)
        self.p = nn.Parameter(p)

    def forward(self, t: Tensor, encoded: Tensor) -> Tensor:
        if self.embed is None:
            assert self.p is not None
            maps = t.view(-1, 1, 1, 1) * self.p
        else:
            maps = self.embed(encoded).view(-1, 1, self.size, self.size)
        return maps.mean((2, 3), keepdim=True) if self.mean else maps


def zero_biases(module: nn.Module) -> None:
    """Set the bias of every convolution and linear layer in a module to zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and part.bias is not None:
            nn.init.zeros_(part.bias)
