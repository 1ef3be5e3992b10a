"""The study edm2: the trap at initialisation, gains behind norms, drift, and post-hoc averages of real weights."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from problems import resolve

from pipeline.layers.flops import count_flops
from pipeline.metrics.bench import Bench
from pipeline.schema.base import SpecError
from pipeline.studies.edm2.block import ToldBlock, measure_block, measure_change
from pipeline.studies.edm2.cost import price
from pipeline.studies.edm2.ladder import fit_slope, list_moments, list_weights, measure_ladder
from pipeline.studies.edm2.post_hoc import find_size, measure_post_hoc
from pipeline.studies.edm2.study import Edm2Record, LadderNetwork
from pipeline.studies.edm2.unet import LadderUNet

CONFIGS = "abcdefg"


def change(run: Any, part: str, **fields: object) -> Any:
    return run.model_copy(update={part: getattr(run, part).model_copy(update=fields)})


@pytest.fixture(scope="module")
def trained() -> dict[str, Edm2Record]:
    """Short trainings."""
    runs = {config: resolve("edm2", "ladder", "baseline" if config == "g" else f"config={config}") for config in "dg"}
    return {config: measure_ladder(change(run, "training", steps=40, stored=4)) for config, run in runs.items()}


@pytest.mark.parametrize("trajectory", ["noise", "walk", "decaying"])
def test_measured_errors_are_the_predicted_ones(trajectory: str):
    run = resolve("edm2", "post_hoc", "baseline" if trajectory == "noise" else f"trajectory={trajectory}")
    record = measure_post_hoc(change(run, "averages", averaged_steps=512, snapshots=8))
    assert record.deviation is not None
    assert record.deviation < 0.1
    assert record.error_stored is not None
    assert record.error_stored < 1e-8


@pytest.mark.parametrize("trajectory", ["noise", "walk", "decaying"])
def test_the_size_of_a_weighted_sum_of_states_is_that_of_many_trajectories(trajectory: str):
    random = np.random.default_rng(0)
    steps, weights = random.standard_normal((20_000, 12)), random.standard_normal(12)
    if trajectory == "decaying":
        steps = steps / np.sqrt(np.arange(1, 13))
    states = steps if trajectory == "noise" else np.cumsum(steps, 1)
    assert find_size(trajectory, weights) == pytest.approx(np.sqrt(((states @ weights) ** 2).mean()), rel=0.03)


def test_a_norm_of_each_channel_cancels_a_gain_unless_its_sign_changes():
    small, large = (measure_block(resolve("edm2", "block", arm)) for arm in ("baseline", "gain=2.0"))
    cells = {(cell.inject, cell.norm): cell for cell in small.cells}
    for inject, norm in product(("gain", "offset"), ("instance", "batch")):
        assert cells[inject, norm].vanishes
        assert cells[inject, norm].change < 1e-13
    assert all(cell.change > 0.05 for cell in small.cells if not cell.vanishes)
    assert (small.flipped, small.change_initial) == (0, 0)
    assert large.flipped is not None
    assert large.flipped > 0
    signs = {(cell.inject, cell.norm): cell for cell in large.cells}
    assert signs["gain", "instance"].change > 0.05
    assert not signs["gain", "instance"].vanishes
    assert signs["offset", "instance"].change < 1e-13


def test_edm2s_block_has_no_norm_behind_its_gain_so_the_level_stays():
    block = ToldBlock(resolve("edm2", "block").block).double()
    x = torch.randn(4, 16, 8, 8, dtype=torch.float64)
    block.requires_grad_(False)
    assert measure_change(block, x, "gain", "none") > 0.05
    block.gain = 0.0
    assert measure_change(block, x, "gain", "none") == 0  # the trap: measured at first, the network seems blind


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["config=a", "config=b", "config=c", "config=e", "config=f", "rate_decay=false"])
def test_the_rest_of_the_ladder_is_measured(arm: str):
    """What is off, or long, tiny."""
    run = change(resolve("edm2", "ladder", arm), "training", steps=4, batch_size=4, stored=2, warmup=1)
    record = measure_ladder(change(run, "network", channels=4))
    assert record.drift[-1].step == 4
    assert record.weight_slope is not None
    assert len(record.length_losses) == 8


@pytest.mark.parametrize("config", CONFIGS)
def test_at_first_the_output_is_0_and_with_gains_of_1_it_knows_the_level(config: str):
    torch.manual_seed(0)
    network = LadderUNet(LadderNetwork(config=config, channels=8))  # type: ignore[arg-type]
    x, labels = torch.randn(3, 1, 8, 8), (torch.full((3,), -0.4), torch.full((3,), 0.3))
    assert all(network(x, label).abs().max() == 0 for label in labels)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "gain" in name:
                value.fill_(1.0)
            elif not value.any():
                value.normal_(std=0.1)
    assert (network(x, labels[0]) - network(x, labels[1])).abs().max() > 1e-2


@pytest.mark.parametrize("config", CONFIGS)
def test_a_rung_has_biases_norms_and_size_as_it_says(config: str):
    network = LadderUNet(LadderNetwork(config=config, channels=8))  # type: ignore[arg-type]
    names = dict(network.named_parameters())
    assert any(name.endswith("bias") for name in names) == (config < "c")
    assert any(isinstance(part, torch.nn.GroupNorm) for part in network.modules()) == (config < "f")
    assert (network.gain_out is not None) == (config >= "d")
    assert (network.uncertainty is not None) == (config >= "b")
    if config >= "d":  # all layers but the scalars are magnitude-preserving: unit entries
        assert all(0.7 < value.square().mean() < 1.4 for value in list_weights(network).values() if value.numel() > 50)


def test_the_last_config_keeps_magnitudes_at_initialisation():
    """Up to the correlation of branches, which all sums neglect."""
    torch.manual_seed(0)
    network, sizes = LadderUNet(LadderNetwork(channels=32)), []
    for block in network.list_blocks().values():
        block.register_forward_hook(lambda _module, _inputs, out: sizes.append(out.square().mean().item()))
    network(torch.randn(16, 1, 8, 8), torch.zeros(16))
    assert all(0.4 < size < 1.5 for size in sizes)


@pytest.mark.slow
def test_forced_weights_keep_their_size_and_others_grow(trained: dict[str, Edm2Record]):
    slopes = {config: record.weight_slope for config, record in trained.items()}
    assert slopes["g"] == pytest.approx(0, abs=1e-3)
    assert slopes["d"] is not None
    assert slopes["d"] > 2e-3


def test_a_training_learns_the_level_and_its_averages_are_rebuilt(trained: dict[str, Edm2Record]):
    for record in trained.values():
        assert record.loss is not None
        assert record.loss < 0.9
        assert record.change_initial == 0
        assert record.change is not None
        assert record.change > 1e-3
        assert record.post_hoc_share is not None
        assert record.post_hoc_share < 0.5
        assert record.drift[0].step == 0
        assert record.drift[-1].step == 40
        assert len(record.drift[0].activations) == len(record.blocks)
        assert len(record.drift[0].weights) == len(record.layers)


def test_the_slope_is_the_exponent_of_a_power():
    moments = list_moments(500)
    assert moments[0] == 0
    assert moments[-1] == 500
    assert fit_slope({step: 3.0 * step**0.25 for step in moments}, after=10) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ("config=d,rate_decay=false", "rate_decay changes nothing below config=e"),
        ("config=a,decay_from=50", "decay_from changes nothing below config=e"),
        ("decay_from=50,rate_decay=false", "decay_from changes nothing with rate_decay=false"),
        ("warmup=150", "warmup = 150: sizes are followed after it, so that it may take at most half of the 200 steps"),
        ("config=h", "config = 'h'"),
    ],
)
def test_an_arm_without_effect_is_refused(arm: str, says: str):
    with pytest.raises(SpecError, match=says):
        resolve("edm2", "ladder", arm)


@pytest.mark.slow
def test_the_plan_knows_the_flops_of_a_longer_training(project: Any):
    """From two short ones."""
    run = change(resolve("edm2", "ladder", "config=d"), "training", steps=60, batch_size=4, stored=2)
    run = change(run, "network", channels=4, levels=1)
    cost = price(project, run, "measure", Bench(project.panel.compute, "cpu", 0.1), (0, 0))
    assert cost.flops == pytest.approx(count_flops(lambda: measure_ladder(run)), rel=0.05)
    assert cost.seconds > 0


@pytest.mark.parametrize("case", ["post_hoc", "block"])
def test_the_plan_prices_the_other_cases(project: Any, case: str):
    assert (
        price(project, resolve("edm2", case), "measure", Bench(project.panel.compute, "cpu", 0.1), (0, 0)).seconds > 0
    )
