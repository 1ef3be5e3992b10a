"""Throughput of NODE training steps: ours against the plain construction, alternating in one process.

The peer: torchdiffeq's odeint_adjoint over eager modules with a concatenated time channel, float32, written here as
the reference code of the paper's recipe has it. Both sides get the same weights, images, threads and allocator.

    python -m benchmarks.node_step [--steps 10] [--device cpu] [--peak TFLOPS] [--json FILE]

Gradient: relative distance between the gradients of the ODE function's convolutions; those of our direct solve are
compared with torchdiffeq's direct solve, since the adjoint has an error of its own.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.process import tune_process

THREADS = 2
tune_process(THREADS)

import torch  # noqa: E402
import torchdiffeq  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from pipeline.networks.node import NodeClassifier, OdeFunction  # noqa: E402
from pipeline.ode.solve import backpropagate  # noqa: E402
from pipeline.schema.node import NodeNetwork, load_node_spec, resolve_node_run  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


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
    with FlopCounterMode(display=False) as counter:
        sides["ours"]()
    ratios = sorted(p.seconds / o.seconds for p, o in zip(outcomes["plain"], outcomes["ours"], strict=True))
    return {
        "plain_ms": seconds["plain"] * 1000,
        "ours_ms": seconds["ours"] * 1000,
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]],
        "nfe": {name: outcome.nfe for name, outcome in last.items()},
        "gradient_difference": difference.item(),
        "ours_tflops": counter.get_total_flops() / seconds["ours"] / 1e12,
    }


CASES = {
    "C=64": ("cifar10", {"channels": 64, "dropout": 0.0}, (3, 32), 128),
    "digits": ("digits", {}, (1, 12), 96),
    "C=256": ("cifar10", {"dropout": 0.0}, (3, 32), 128),
}
VARIANTS = {
    "adjoint": ({"gradient": "adjoint"}, False),
    "direct": ({"gradient": "direct"}, False),
    "direct, bfloat16": ({"gradient": "direct"}, True),
}


def main() -> None:
    """Print a table; a row is one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each side")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device's matrix units, to show the fraction reached")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cases = args.case or (["C=64", "digits"] if args.device == "cpu" else list(CASES))
    where = (
        torch.cuda.get_device_name()
        if args.device == "cuda"
        else f"{THREADS} threads, {platform.processor() or platform.machine()}"
    )
    print(f"torch {torch.__version__}, torchdiffeq {torchdiffeq.__version__}, {where}")
    columns = f"{'plain ms':>9} {'ours ms':>8} {'ratio':>6}  {'quartiles':12} {'NFE-F':>7} {'NFE-B':>7}"
    print(f"{'':28}{columns} {'gradient off by':>16} {'TFLOP/s':>8}")
    results = {}
    for case in cases:
        dataset, fields, image, batch = CASES[case]
        base = resolve_node_run(load_node_spec(ROOT), dataset, "baseline", 0).network
        for variant, (more, bfloat16) in VARIANTS.items():
            network = base.model_copy(update={**fields, **more})
            result = compare(network, image, batch, bfloat16, args.steps, args.device)
            results[f"{case}, {variant}"] = result
            low, high = result["ratio_quartiles"]
            nfe = [f"{result['nfe']['plain'][index]}/{result['nfe']['ours'][index]}" for index in (0, 1)]
            print(
                f"{case + ', ' + variant:28}{result['plain_ms']:9.1f} {result['ours_ms']:8.1f} {result['ratio']:6.2f}  "
                f"{low:.2f} - {high:.2f}  {nfe[0]:>7} {nfe[1]:>7} {result['gradient_difference']:16.1e} "
                f"{result['ours_tflops']:8.3f}" + (f" {result['ours_tflops'] / args.peak:.1%}" if args.peak else ""),
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
