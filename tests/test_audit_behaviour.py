"""Told and inferred time of networks whose truth is known."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.audit.behaviour import LEVELS, choose_levels
from pipeline.audit.conclusion import conclude
from pipeline.audit.examination import audit
from pipeline.audit.findings import Behaviour
from pipeline.schema.base import SpecError

C, SIZE, BATCHES, BATCH = 2, 6, 6, 32


def white(scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(BATCH, C, SIZE, SIZE, generator=generator) for _ in range(BATCHES)]


class Optimal(nn.Module):
    """Of white noise under DDPM: E[noise | x] = sigma x; `blind`: it takes no account of the level."""

    def __init__(self, blind: bool = False) -> None:
        super().__init__()
        from pipeline.diffusion.schedule import make_schedule
        from pipeline.schema.diffusion import Diffusion

        self.blind, self.seen = blind, nn.Conv2d(C, C, 1)
        nn.init.dirac_(self.seen.weight)
        nn.init.zeros_(self.seen.bias)
        self.register_buffer("sigma", (1 - make_schedule(Diffusion()).alphas_bar).sqrt())

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        sigma = self.sigma.to(x.dtype)[timestep.long()][:, None, None, None]
        return self.seen(x) * (0.7 + 0 * sigma if self.blind else sigma)


def look(network: nn.Module, loss: Any = "ddpm", batches: list[Tensor] | None = None, **options: Any) -> Behaviour:
    found = audit(network, torch.randn(2, C, SIZE, SIZE), loss=loss, batches=batches or white(), **options).behaviour
    assert found is not None
    return found


def test_white_noise_is_told_and_not_inferred():
    found = look(Optimal())
    assert found.shuffled.low is not None and found.shuffled.low > 0.1
    assert found.fixed.low is not None and found.fixed.low > 0.05
    assert found.linear is not None and abs(found.linear.mean) < 0.15
    assert found.mlp is not None and found.mlp.mean < 0.15
    assert (found.batches, found.images, len(found.levels)) == (BATCHES, BATCHES * BATCH, LEVELS)


def test_losses_by_level_are_those_of_the_optimum():
    """1 - sigma^2 = alpha_bar with the right level; with a wrong one the squared difference of sigmas more."""
    network = Optimal()
    found = look(network, times=[0, 500, 999])
    sigma = network.sigma
    for level in found.levels:
        right = float(1 - sigma[int(level.t)] ** 2)
        assert level.right == pytest.approx(right, abs=0.05)
        extra = float((sigma[int(level.t)] - sigma[int(found.fixed_at)]) ** 2)
        assert level.fixed == pytest.approx(right + extra, abs=0.05, rel=0.12)


def test_a_network_that_ignores_the_time_is_told_exactly_nothing():
    found = look(Optimal(blind=True))
    assert found.shuffled.mean == found.fixed.mean == 0
    assert found.shuffled.low == found.shuffled.high == 0


def test_data_whose_norm_tells_the_time_lets_it_be_inferred():
    """Images of nothing on the straight path: x_t = (1 - t) noise."""
    batches = [torch.zeros(BATCH, C, 16, 16) for _ in range(BATCHES)]
    found = audit(Raw(), torch.randn(2, C, 16, 16), times=[0, 1], loss="flow", batches=batches).behaviour
    assert found is not None
    assert found.linear is not None and found.linear.mean > 0.95
    assert found.mlp is not None and found.mlp.mean > 0.95
    assert found.shuffled.mean == 0


class Scalar(nn.Module):
    """An exact flow of white noise from noise at 0 to data at 1, one time for all images: E[x1 - x0 | x]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 1)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        assert t.ndim == 0
        return (2 * t - 1) / (t**2 + (1 - t) ** 2) * x + 0 * self.conv(x)


def test_flow_matching_goes_from_noise_to_data_and_back_if_the_times_do():
    inputs = {"x": torch.randn(2, C, SIZE, SIZE), "t": torch.tensor(0.0)}
    there = audit(Scalar(), inputs, times=[0, 1], loss="flow", batches=white()).behaviour
    assert there is not None
    for level in there.levels:
        c = 1 / (level.t**2 + (1 - level.t) ** 2)  # E |x1 - x0 - E[...]|^2 = 2 - (2t - 1)^2 c = c
        assert level.right == pytest.approx(c, rel=0.15)
        assert level.right <= level.fixed + 1e-9 or math.isclose(level.t, 0.5, abs_tol=0.1)
    back = audit(Scalar(), inputs, times=[1, 0], loss="flow", batches=white()).behaviour
    assert back is not None and back.right.mean > 1.0


class Raw(nn.Module):
    """EDM's F for white noise of variance 1/4: the posterior mean is c_skip x, so that F is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 1)

    def forward(self, x: Tensor, noise_labels: Tensor) -> Tensor:
        self.conv(x)  # for its features
        return 0 * x + 0 * noise_labels[:, None, None, None]


def test_edm_weighs_each_level_alike():
    found = look(Raw(), "edm", white(0.5))
    assert all(level.right == pytest.approx(1, abs=0.1) for level in found.levels)


def own(network: nn.Module, x: Tensor, t: Tensor, told: Tensor) -> Tensor:
    return (network(x, told) - x).square().mean((1, 2, 3))


def test_a_loss_of_the_users_own_is_named_and_the_network_untouched():
    network, x, batches = Optimal(), torch.randn(2, C, SIZE, SIZE), white()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    found = audit(network, x, times=[0, 999], loss=own, batches=batches).behaviour
    assert found is not None and found.loss == "own"
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.seen._forward_hooks


WRONG = [
    ({"loss": "dppm"}, "loss = 'dppm': unknown (did you mean 'ddpm'?); allowed: ddpm, flow, edm"),
    ({"batches": white()[:2]}, "batches: 2; at least 3 are needed"),
    ({"batches": [one[:4] for one in white()]}, "batches: 4 images in one; at least 8"),
    ({"loss": lambda *_: torch.tensor(1.0)}, "its result has shape []; one number for each image"),
    ({"batches": [one[:, :1] for one in white()]}, "loss = ddpm: "),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_losses_and_batches_are_one_line(options: dict[str, Any], message: str):
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        look(Optimal(), **options)
    assert "\n" not in str(caught.value)


def test_the_verdict_says_told_and_inferred():
    found = audit(Optimal(), white()[0][:2], loss="ddpm", batches=white())
    said = " ".join(conclude(found))
    assert re.search(r"Told: the loss is \d+ % higher \(.* to .* %\) with a shuffled time", said)
    assert "Inferred: " in said


def unrun(network: nn.Module, x: Tensor, t: Tensor, told: Tensor) -> Tensor:
    return 1 + (told - t).square()


def test_without_features_there_is_nothing_to_probe():
    found = audit(Optimal(), torch.randn(2, C, SIZE, SIZE), times=[0, 999], loss=unrun, batches=white())
    assert found.behaviour is not None and found.behaviour.linear is found.behaviour.mlp is None
    assert found.behaviour.shuffled.mean > 0
    assert "Inferred" not in " ".join(conclude(found))


@pytest.mark.parametrize(("times", "first"), [([0, 999], 62.0), ([0, 1], 0.0625), ([1, 0], 0.0625)])
def test_levels_are_midpoints(times: list[float], first: float):
    assert choose_levels(times)[0] == first
