"""The neural-ODE classifier of the paper, section 4.1; topology of neural-ode-features (facts 2.1)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.networks.norms import make_norm
from pipeline.networks.timed_conv import TimedConv2d
from pipeline.ode.solve import solve
from pipeline.schema.node import NodeNetwork

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
}


def _outer_activation(network: NodeNetwork) -> nn.Module:
    """The activation outside the ODE function."""
    return ACTIVATIONS[network.activation if network.activation_scope == "all" else "relu"]()


class ResidualBlock(nn.Module):
    """Pre-activation block of stride 2; the shortcut convolves the activated input. [B, C, H, W] to half the size."""

    def __init__(self, network: NodeNetwork, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1 = make_norm(network.norm, channels_in, network.groups)
        self.norm2 = make_norm(network.norm, channels_out, network.groups)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=2, bias=False)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.activation = _outer_activation(network)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(self.norm1(x))
        y = self.conv1(activated)
        y = self.conv2(self.activation(self.norm2(y)))
        out: Tensor = y + self.shortcut(activated)
        return out


class OdeFunction(nn.Module):
    """f(t, x) = Norm-Act-TimedConv-Norm-Act-TimedConv-Norm. It owns all it uses, as the adjoint demands."""

    def __init__(self, network: NodeNetwork, size: int) -> None:
        super().__init__()
        channels, activation = network.channels, ACTIVATIONS[network.activation]

        def convolution() -> TimedConv2d:
            return TimedConv2d(channels, size, network.time, network.position, network.zero_bias, activation)

        self.norm1 = make_norm(network.norm, channels, network.groups)
        self.conv1 = convolution()
        self.norm2 = make_norm(network.norm, channels, network.groups)
        self.conv2 = convolution()
        self.norm3 = make_norm(network.norm, channels, network.groups)
        self.activation = activation()

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        z = self.conv1(t, self.activation(self.norm1(x)))
        z = self.conv2(t, self.activation(self.norm2(z)))
        out: Tensor = self.norm3(z)
        return out


@dataclass(frozen=True)
class Classified:
    """Logits [B, classes] and the function evaluations of the forward solve."""

    logits: Tensor
    nfe: int


def ode_size(image_size: int) -> int:
    """Side of the ODE block's feature map: stem without padding, then two halvings rounded up."""
    side = image_size - 2
    for _ in range(2):
        side = (side + 1) // 2
    return side


class NodeClassifier(nn.Module):
    """Stem, ODE block on [0, 1], head. Weights start at PyTorch's defaults, but for `zero_bias` and `position`."""

    def __init__(self, network: NodeNetwork, image_channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        self.network = network
        stem = network.stem_channels
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, stem, 3),
            ResidualBlock(network, stem, stem),
            ResidualBlock(network, stem, network.channels),
        )
        self.field = OdeFunction(network, ode_size(image_size))
        self.head = nn.Sequential(
            make_norm(network.norm, network.channels, network.groups),
            _outer_activation(network),
            nn.AdaptiveAvgPool2d(1),
            nn.Dropout(network.dropout),
            nn.Flatten(),
            nn.Linear(network.channels, classes),
        )

    def forward(self, x: Tensor) -> Classified:
        """x: normalised images [B, C, H, W]."""
        network = self.network
        solution = solve(self.field, self.stem(x).float(), network.solver, network.rtol, network.atol, network.gradient)
        return Classified(self.head(solution.x), solution.nfe)
