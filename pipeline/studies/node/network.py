"""The neural-ODE classifier of the paper's section 4.1.

Source of what the paper leaves open (stem, residual blocks, head): fabiocarrara/neural-ode-features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.layers.activations import make_activation
from pipeline.layers.foreign import FUNCTION, ForeignFunction, make_network
from pipeline.layers.norms import make_norm
from pipeline.ode.field import Derived, FrozenField
from pipeline.ode.solve import Method, Solution, solve
from pipeline.run.foreign import import_own
from pipeline.studies.node.derived import choose_outer_norm, choose_stem_groups, has_mlp, ode_width
from pipeline.studies.node.study import NodeNetwork
from pipeline.studies.node.timed_conv import Position, TimedConv2d, encode_time, make_mlp, zero_biases


def _outer_norm(network: NodeNetwork, channels: int, size: int) -> nn.Module:
    """The norm outside the ODE function."""
    return make_norm(choose_outer_norm(network), channels, size, choose_stem_groups(network), network.batch_statistics)


def _outer_activation(network: NodeNetwork) -> nn.Module:
    """The activation outside the ODE function."""
    return make_activation(network.activation if network.activation_scope == "all" else "relu")


class ResidualBlock(nn.Module):
    """Pre-activation block of stride 2: [B, C_in, H, W] to [B, C_out, H/2, W/2], rounded up.

    The shortcut is a 1x1 convolution of the activated input, as in neural-ode-features.
    """

    def __init__(self, network: NodeNetwork, channels_in: int, channels_out: int, size: int) -> None:
        super().__init__()
        self.norm1 = _outer_norm(network, channels_in, size)
        self.norm2 = _outer_norm(network, channels_out, _halve(size))
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
    """The ODE function f(t, x): Norm-Act-TimedConv-Norm-Act-TimedConv-Norm (the paper, section 2.1).

    x and f(t, x) are [B, C, H, W], t is a scalar, or [B], one for each image. It has two sites, the TimedConvs, each
    followed by a norm. All parameters that it uses are its own, because the adjoint gives no gradient to others.
    """

    def __init__(self, network: NodeNetwork, size: int) -> None:
        super().__init__()
        self.network = network

        def norm() -> nn.Module:
            return make_norm(network.norm, ode_width(network), size, network.groups, network.batch_statistics)

        self.norm1, self.norm2, self.norm3 = norm(), norm(), norm()
        self.conv1, self.conv2 = TimedConv2d(network, size), TimedConv2d(network, size)
        self.activation = make_activation(network.activation)
        self.shared_embed: nn.Sequential | None = None
        if "mlp" in network.time and network.embedding_sites == "shared":
            self.shared_embed = make_mlp(network, ode_width(network))
            if network.zero_bias in ("time", "all"):
                zero_biases(self.shared_embed)
        # Owned by f, not by the sites: both sites may share one map.
        count = {"separate": 2, "shared": 1, "first": 1}[network.position_sites] if network.position != "none" else 0
        self.positions = nn.ModuleList(Position(network, size) for _ in range(count))

    def derive(self) -> list[Derived]:
        """Tensors that depend on the parameters alone; a solve computes them once."""
        return [Derived(conv.weight, conv.derive()) for conv in (self.conv1, self.conv2) if conv.concat]

    def use(self, tensors: Sequence[Tensor] | None) -> None:
        """Use these tensors instead of those of `derive`; None: derive at each call."""
        convs = [conv for conv in (self.conv1, self.conv2) if conv.concat]
        # Two tensors per site, the kernel and v, in the order of `derive`.
        for index, conv in enumerate(convs):
            conv.derived = None if tensors is None else (tensors[2 * index], tensors[2 * index + 1])

    def convolve(self, site: int, t: Tensor, x: Tensor) -> Tensor:
        """Z of site 0 or 1, [B, C, H, W]: convolution plus timestep embeddings, before the norm."""
        encoded = embedded = None
        if has_mlp(self.network):
            # Each site's own MLP gets the encoded t; under `shared`, it gets the output of the shared MLP.
            encoded = embedded = encode_time(t, self.network)
            if self.shared_embed is not None:
                embedded = self.shared_embed(encoded)
        position = None
        if self.positions and not (site == 1 and self.network.position_sites == "first"):
            position = self.positions[min(site, len(self.positions) - 1)](t, encoded)
        out: Tensor = (self.conv1, self.conv2)[site](t, x, embedded, position)
        return out

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        z = self.convolve(0, t, self.activation(self.norm1(x)))
        z = self.convolve(1, t, self.activation(self.norm2(z)))
        # In float32: the solver would take the rounding of bfloat16 for its own error.
        out: Tensor = self.norm3(z.float() if z.dtype == torch.bfloat16 else z)
        return out


@dataclass(frozen=True)
class Classified:
    """Logits [B, classes], and the solve that led to them; None without an ODE block."""

    logits: Tensor
    solution: Solution | None


def _halve(side: int) -> int:
    return (side + 1) // 2


def ode_size(image_size: int) -> int:
    """Side of the ODE block's feature map in pixels: 32 gives 8. The stem pads nothing, then two halvings round up."""
    return _halve(_halve(image_size - 2))


def make_field(network: NodeNetwork, size: int) -> OdeFunction | ForeignFunction:
    """The ODE function on features [B, C, size, size]: ours, or the user's own.

    Raises:
        SpecError: the user's cannot be made or called.
    """
    if network.function is None:
        return OdeFunction(network, size)
    width = ode_width(network)
    own = make_network(import_own(network.function), network.function, width, size)
    return ForeignFunction(own, (width, size, size), FUNCTION, network.function)


def make_method(network: NodeNetwork) -> Method:
    """The solver settings of a network."""
    return Method(**{name: getattr(network, name) for name in Method.__dataclass_fields__})


class NodeClassifier(nn.Module):
    """Stem, ODE block on [0, 1], head: [B, C, H, W] to logits.

    Initial weights are PyTorch's defaults, drawn from torch's global generator, unless the network's fields say else.

    Args:
        image_size: side of an image in pixels.
    """

    def __init__(self, network: NodeNetwork, image_channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        self.network = network
        stem, size = network.stem_channels, ode_size(image_size)
        width = ode_width(network) if network.block == "ode" else network.channels
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, stem, 3),
            ResidualBlock(network, stem, stem, image_size - 2),
            ResidualBlock(network, stem, network.channels, _halve(image_size - 2)),
        )
        self.field = make_field(network, size) if network.block == "ode" else None
        self.head = nn.Sequential(
            _outer_norm(network, width, size),
            _outer_activation(network),
            nn.AdaptiveAvgPool2d(1),
            nn.Dropout(network.dropout),
            nn.Flatten(),
            nn.Linear(width, classes),
        )
        if network.zero_bias in ("conv", "all") and network.zero_bias_scope == "all":
            zero_biases(self.stem)
            zero_biases(self.head)

    def extract(self, x: Tensor) -> Tensor:
        """The ODE's initial state h(0), [B, C, H, W], of normalised images."""
        h: Tensor = self.stem(x).float()  # the solver needs float32, also under autocast
        extra = self.network.augment_channels if self.field is not None else 0
        # [B, channels + augment_channels, H, W]
        return torch.cat([h, h.new_zeros(len(h), extra, *h.shape[2:])], 1) if extra else h

    def forward(self, x: Tensor, frozen: float | None = None) -> Classified:
        """Classify normalised images x [B, C, H, W].

        Args:
            frozen: a time at which the ODE function is evaluated throughout; None: at the solver's own times.
        """
        h = self.extract(x)
        if self.field is None:
            return Classified(self.head(h), None)
        field = self.field if frozen is None else FrozenField(self.field, frozen)
        solution = solve(field, h, make_method(self.network))
        return Classified(self.head(solution.x), solution)
