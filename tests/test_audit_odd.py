"""Networks that are hard to audit: right, or refused in one line; and nothing of them or of a generator changes."""

import random
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.audit.command import find_least
from pipeline.audit.conclusion import conclude
from pipeline.audit.examination import audit
from pipeline.audit.findings import Audit
from pipeline.audit.subject import keep_state
from pipeline.schema.base import SpecError

C = 4
TIMES = (0.0, 0.5, 1.0)


class Net(nn.Module):
    """Adds the time, then normalises by channel: nothing of it survives."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.embed, self.norm = nn.Conv2d(C, C, 3, padding=1), nn.Linear(1, C), nn.BatchNorm2d(C)

    def run(self, x: Tensor, t: Tensor) -> Tensor:
        return self.norm(self.conv(x) + self.embed(t.view(-1, 1).to(x.dtype))[:, :, None, None]).relu()

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.run(x, t)


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, C, 6, 6, generator=torch.Generator().manual_seed(1))


def look(network: Any, inputs: Any = None, time: str | None = None, **options: Any) -> Audit:
    return audit(network, {"x": images()} if inputs is None else inputs, time, options.pop("times", TIMES), **options)


class Column(Net):
    """Takes the time as [B, 1] alone."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(x), 1)
        return self.run(x, t)


class Pair(NamedTuple):
    x: Tensor
    t: Tensor


class Named(Net):
    def forward(self, pair: Pair) -> tuple[Tensor, dict[str, Tensor]]:
        return self.run(pair.x, pair.t), {"t": pair.t}


class Kept(Net):
    """Keeps what it returned, with its gradients' history."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.last = self.run(x, t)
        return self.last


def run_once(network: Net) -> Net:
    network(images(), torch.zeros(2))
    return network


def normalise_weights() -> Net:
    network = Net()
    network.conv = nn.utils.weight_norm(network.conv)  # of the old kind: its weight is no leaf
    return network


def replace_forward() -> Net:
    """As some trainers do: the copy's `forward` is that of the network itself."""
    network = Net()
    forward = network.forward
    network.forward = lambda x, t: forward(x, t)  # type: ignore[method-assign]
    return network


class Drawing(Net):
    """Draws numbers of NumPy's and Python's generators."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.run(x + np.random.randn() + random.random(), t)  # noqa: S311


@pytest.mark.parametrize(
    ("make", "inputs", "time"),
    [
        (Column, None, None),
        (Named, (Pair(images(), torch.zeros(2)),), "pair.t"),
        (Named, (Pair(images(), torch.zeros(2)),), "pair.1"),
        (lambda: run_once(Kept()), None, None),
        (normalise_weights, None, None),
        (replace_forward, None, None),
        (lambda: nn.DataParallel(Net()), None, None),
        (Drawing, None, None),
        (lambda: Net().to(torch.bfloat16), None, None),
        (lambda: Net().double(), None, None),
    ],
)
def test_it_is_right_and_leaves_no_trace(make: Callable[[], Net], inputs: Any, time: str | None):
    network = make()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    (site,) = look(network, inputs, time).sites
    assert (site.survival, site.norm and site.norm.kind) == (0, "batch")
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.training and all(value.grad is None for value in network.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]


def test_buffers_and_modes_are_put_back():
    network = Net()
    mean = network.norm.running_mean
    with keep_state(network):
        network.eval()
        network.norm.running_mean.add_(1)
        network.norm.running_var = torch.zeros(C)
    assert network.training and network.norm.training
    assert network.norm.running_mean is mean and not mean.any() and network.norm.running_var.all()


class Late(Net):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if (t > 0.9).any():
            raise ValueError("beyond the schedule\nand more")
        return self.run(x, t)


class Logarithm(Net):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.run(x, t.log())


class Number(Net):
    def forward(self, x: Tensor, t: float) -> Tensor:
        if not isinstance(t, float):
            raise TypeError("t is no float")
        return self.run(x, torch.tensor([t]))


class Table(Net):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.run(x, self.table(t))


class Silent(Net):
    def forward(self, x: Tensor, t: Tensor) -> None:
        self.run(x, t)


def fail(*_: Any) -> Tensor:
    raise KeyError("weights")


X = {"x": images()}
WRONG = [
    (Late, X, {}, "does not run at time 1: beyond the schedule"),
    (Logarithm, X, {}, "what the network makes of the time is not finite at time 0"),
    (Number, X, {}, "Number does not run on these inputs: t is no float"),
    (Number, {**X, "t": 0.5}, {}, "Number does not run on these inputs: t is no float"),
    (Table, X, {"times": [0, 99]}, "in whatever form the time is given: Expected tensor"),
    (Table, X, {"times": [0, 5, 99]}, "does not run at time 99: index out of range"),
    (Silent, X, {}, "Silent returns no tensor"),
    (Net, {"x": images(0)}, {}, "the data (x) are empty"),
    (Net, X, {"data": ["t"]}, "data = 't': this input has no tensor beside the time"),
    (Net, X, {"times": "0:1"}, "numbers are needed"),
    (Net, X, {"channels": 4}, "channels = 4: at Net a tensor has 4 axes"),
    (Net, X, {"loss": fail, "batches": [images(8)] * 3}, "loss = fail: 'weights'"),
    (lambda: torch.jit.trace(Net(), (images(), torch.zeros(2))), X, {}, "TorchScript cannot be followed"),
]


@pytest.mark.parametrize(("make", "inputs", "options", "says"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_audited_is_one_line(make: Callable[[], Any], inputs: Any, options: dict[str, Any], says: str):
    with pytest.raises(SpecError, match=re.escape(says)) as caught:
        look(make(), inputs, **options)
    assert "\n" not in str(caught.value)


class Blind(Net):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.conv(x)


class Rotating(Net):
    """The time goes through complex numbers."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(x) * torch.exp(1j * t)[:, None, None, None]).real


def test_a_network_that_does_not_use_the_time_fails_any_limit():
    assert find_least(look(Blind())) == 0
    rotating = look(Rotating())
    assert rotating.sites == [] and find_least(rotating) is None
    assert "the output changes with it: through Python, NumPy or complex numbers" in conclude(rotating)[-1]
