"""The plain construction of a NODE training step, and the comparison of ours with it.

The peer: torchdiffeq's odeint_adjoint over eager modules with a concatenated time channel, float32, written here as
the reference code of the paper's recipe has it. Both sides get the same weights, images, threads and allocator.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchdiffeq
from torch import Tensor, nn
from torch.nn import functional

from pipeline.layers.flops import count_flops
from pipeline.ode.solve import backpropagate
from pipeline.studies.node.network import NodeClassifier, OdeFunction
from pipeline.studies.node.study import NodeNetwork


class PlainConcatConv(nn.Module):
    """Conv2d over the input with a channel of t before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + 1, channels, 3, padding=1)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """t a scalar, x [B, C, H, W]."""
        return self.conv(torch.cat([torch.ones_like(x[:, :1]) * t, x], 1))


class PlainField(nn.Module):
    """GN-ReLU-ConcatConv-GN-ReLU-ConcatConv-GN; counts its evaluations."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.GroupNorm(groups, channels) for _ in range(3))
        self.conv1, self.conv2 = PlainConcatConv(channels), PlainConcatConv(channels)
        self.relu = nn.ReLU(inplace=True)
        self.nfe = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """t a scalar, x [B, C, H, W]."""
        self.nfe += 1
        z = self.conv1(t, self.relu(self.norm1(x)))
        z = self.conv2(t, self.relu(self.norm2(z)))
        return self.norm3(z)


class PlainClassifier(nn.Module):
    """Our stem and head around the plain ODE block."""

    def __init__(self, ours: NodeClassifier) -> None:
        super().__init__()
        network = ours.network
        self.network, self.stem, self.head = network, ours.stem, ours.head
        self.field = PlainField(network.channels, network.groups)
        assert isinstance(ours.field, OdeFunction)
        weights = {name: value for name, value in ours.field.state_dict().items() if name.startswith("norm")}
        for conv in ("conv1", "conv2"):
            for part in ("weight", "bias"):
                weights[f"{conv}.conv.{part}"] = getattr(getattr(ours.field, conv), part)
        self.field.load_state_dict(weights)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] to logits."""
        return self.solve(x, torchdiffeq.odeint_adjoint)

    def solve(self, x: Tensor, integrate: Callable[..., Tensor]) -> Tensor:
        """The same with odeint or odeint_adjoint."""
        times = torch.tensor([0.0, 1.0], device=x.device)
        tolerance = {"rtol": self.network.rtol, "atol": self.network.atol}
        return self.head(integrate(self.field, self.stem(x), times, method="dopri5", **tolerance)[-1])


@dataclass
class Outcome:
    """One training step without the optimiser: seconds, evaluations, gradient of the ODE function."""

    seconds: float
    nfe: tuple[int, int]
    gradient: Tensor


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def step_plain(model: PlainClassifier, x: Tensor, labels: Tensor) -> Outcome:
    """Forward, backward and update of the peer."""
    optimiser = torch.optim.SGD(model.parameters(), 0.0, 0.9)
    model.field.nfe = 0
    _synchronise(x.device.type)
    start = time.perf_counter()
    loss = functional.cross_entropy(model(x), labels)
    forward = model.field.nfe
    loss.backward()
    optimiser.step()
    _synchronise(x.device.type)
    seconds = time.perf_counter() - start
    gradient = collect_gradient(model.field.conv1.conv, model.field.conv2.conv)
    model.zero_grad()
    return Outcome(seconds, (forward, model.field.nfe - forward), gradient)


def collect_gradient(*convs: nn.Module) -> Tensor:
    """Gradients of weights and biases, in one row."""
    return torch.cat([value.grad.flatten() for conv in convs for value in (conv.weight, conv.bias)])


def find_direct_gradient(model: PlainClassifier, x: Tensor, labels: Tensor) -> Tensor:
    """What automatic differentiation through torchdiffeq's steps gives."""
    functional.cross_entropy(model.solve(x, torchdiffeq.odeint), labels).backward()
    gradient = collect_gradient(model.field.conv1.conv, model.field.conv2.conv)
    model.zero_grad()
    return gradient


def step_ours(model: NodeClassifier, x: Tensor, labels: Tensor, bfloat16: bool) -> Outcome:
    """Forward, backward and update of ours."""
    optimiser = torch.optim.SGD(model.parameters(), 0.0, 0.9)
    _synchronise(x.device.type)
    start = time.perf_counter()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
        classified = model(x)
    backpropagate(functional.cross_entropy(classified.logits.float(), labels))
    optimiser.step()
    _synchronise(x.device.type)
    seconds = time.perf_counter() - start
    field, solution = model.field, classified.solution
    assert field is not None and solution is not None
    gradient = collect_gradient(field.conv1, field.conv2)
    model.zero_grad()
    return Outcome(seconds, (solution.nfe, solution.nfe_backward), gradient)


def compare(network: NodeNetwork, image: tuple[int, int], batch: int, bfloat16: bool, steps: int, device: str) -> dict:
    """Median seconds of both sides, alternating, and how far they agree."""
    torch.manual_seed(0)
    ours = NodeClassifier(network, image[0], image[1], 10).to(device)
    plain = PlainClassifier(ours).to(device)
    x = torch.randn(batch, image[0], image[1], image[1], device=device)
    labels = torch.randint(0, 10, (batch,), device=device)
    sides: dict[str, Callable[[], Outcome]] = {
        "plain": lambda: step_plain(plain, x, labels),
        "ours": lambda: step_ours(ours, x, labels, bfloat16),
    }
    outcomes: dict[str, list[Outcome]] = {"plain": [], "ours": []}
    for index in range(steps + 2):
        for name, step in sides.items():
            outcome = step()
            if index >= 2:
                outcomes[name].append(outcome)
    seconds = {name: statistics.median(outcome.seconds for outcome in outcomes[name]) for name in sides}
    last = {name: outcomes[name][-1] for name in sides}
    direct = network.gradient == "direct"
    reference = find_direct_gradient(plain, x, labels) if direct else last["plain"].gradient
    difference = (last["ours"].gradient - reference).norm() / reference.norm()
    ratios = sorted(p.seconds / o.seconds for p, o in zip(outcomes["plain"], outcomes["ours"], strict=True))
    return {
        "plain_ms": seconds["plain"] * 1000,
        "ours_ms": seconds["ours"] * 1000,
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
        "nfe": {name: outcome.nfe for name, outcome in last.items()},
        "gradient_difference": difference.item(),
        "ours_tflops": count_flops(sides["ours"]) / seconds["ours"] / 1e12,
    }
