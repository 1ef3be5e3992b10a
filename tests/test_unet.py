"""The U-Net: parameter counts, bias rules, its parts."""

import math
from typing import Any

import pytest
import torch
from problems import count, ddpm_network
from torch import nn

from pipeline.layers.sinusoid import embed_sinusoidally
from pipeline.studies.ddpm.unet import LevelInputs, ResidualBlock, UNet, Upsample, _Layers


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def unet(**fields: Any) -> UNet:
    return UNet(ddpm_network(**fields), 1, 8, 1000)


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ("baseline", 35_218_947),
        ("up_attention=each", 35_746_307),
        ("position=mlp", 38_723_763),
        ("position=mlp,position_mean=true", 38_723_763),
        ("position=mlp,zero_bias=conv,groups=1", 38_723_763),
        ("position=mlp,position_input=sinusoid", 35_218_947 + 881_328),
        ("position=mlp,position_input=level", 35_218_947 + 6_832),
        ("position=mlp,position_maps=resolution", 35_218_947 + 513 * (32**2 + 16**2 + 8**2 + 4**2)),
        ("position=mlp,position_maps=network", 35_218_947 + 513 * 32**2),
        ("position=mlp,position_input=mlp", 38_723_763 + 22 * (129 * 512)),
    ],
)
def test_ddpm_parameter_counts(arm: str, expected: int):
    with torch.device("meta"):
        assert count(UNet(ddpm_network("cifar10", arm), 3, 32, 1000)) == expected


def test_weights_start_with_the_base_codes_variance():
    """Uniform, variance scale / ((fan in + fan out) / 2): 1, but 0.1 in 1x1 convolutions and 1e-10 before a sum."""
    network = unet(channels=64, groups=8)
    first, attention = blocks(network)[1], network.middle[1]
    for layer, scale in (
        (first.conv1, 1.0), (first.time, 1.0), (network.embed[2], 1.0), (first.shortcut, 0.1), (attention.query, 0.1),
        (first.conv2, 1e-10), (attention.project, 1e-10), (network.conv_out, 1e-10),
    ):  # fmt: skip
        fans = layer.weight[0].numel() + layer.weight[:, 0].numel()
        bound = math.sqrt(3 * scale / (fans / 2))
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("zero_bias", ["none", "conv", "time", "all"])
def test_ddpm_bias_rules(zero_bias: str):
    network = unet(position="mlp", zero_bias=zero_bias)
    layers = [part for part in network.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    assert sum(isinstance(part, nn.Linear) for part in layers) == 2 + 2 * len(blocks(network))
    for layer in layers:
        branch = "time" if isinstance(layer, nn.Linear) else "conv"
        assert_bias(layer, zero_bias in (branch, "all"))


def assert_bias(layer: nn.Linear | nn.Conv2d, zero: bool) -> None:
    bound = 1 / math.sqrt(layer.weight[0].numel())
    largest = layer.bias.abs().max()
    assert (largest == 0) if zero else (0 < largest <= bound)


@pytest.mark.parametrize("scope", ["all", "sites", "embedding"])
@pytest.mark.parametrize("position_bias", ["branch", "zero", "default"])
def test_which_layers_of_the_timestep_branch_have_a_bias(scope: str, position_bias: str):
    network = unet(position="mlp", zero_bias="conv", time_bias_scope=scope, position_bias=position_bias)
    for layer in (network.embed[0], network.embed[2]):
        assert_bias(layer, scope == "sites")
    for block in blocks(network):
        assert_bias(block.conv1, True)
        assert_bias(block.time, scope == "embedding")
        of_map = {"branch": scope == "embedding", "zero": True, "default": False}[position_bias]
        assert_bias(block.position.pixels, of_map)


def test_groups_within_and_outside_their_scope():
    network = unet(groups=2, groups_scope="sites", outer_groups=4)
    for name, part in network.named_modules():
        if isinstance(part, nn.GroupNorm):
            assert part.num_groups == (2 if name.endswith("norm2") else 4), name
            assert part.eps == 1e-6


def inputs_of(network: UNet, level: float) -> LevelInputs:
    return network.make_inputs(torch.tensor([level]))


def test_each_input_of_the_map_is_what_it_says():
    for name, seen in (("embedding", "embedded"), ("sinusoid", "sinusoid"), ("level", "fraction")):
        network = unet(position="mlp", position_input=name)
        inputs = inputs_of(network, 250.0)
        known = getattr(inputs, seen)
        position = blocks(network)[0].position
        assert torch.equal(position(inputs).flatten(), position.pixels(known).flatten())
    assert inputs.fraction.item() == 0.25
    assert torch.allclose(blocks(network)[0].position(inputs_of(network, 500.0)), 2 * position(inputs))  # no bias
    network = unet(position="mlp", position_input="mlp")
    position, inputs = blocks(network)[0].position, inputs_of(network, 250.0)
    hidden = nn.functional.silu(position.hidden(inputs.sinusoid))
    assert torch.equal(position(inputs).flatten(), position.pixels(hidden).flatten())


def test_what_a_block_adds_is_v_plus_p():
    network = unet(position="mlp")
    block, inputs = blocks(network)[0], inputs_of(network, 300.0)
    expected = block.time(inputs.embedded)[0, :, None, None] + block.position.pixels(inputs.embedded).view(1, 8, 8)
    torch.testing.assert_close(block.embed(inputs, None)[0], expected)
    x = torch.randn(2, 8, 8, 8)
    z = block.norm2(block.conv1(nn.functional.silu(block.norm1(x))) + expected)
    torch.testing.assert_close(block(x, inputs, None), block.conv2(nn.functional.silu(z)) + x)


def test_the_control_has_the_maps_mean_at_every_pixel():
    torch.manual_seed(0)
    free = unet(position="mlp")
    torch.manual_seed(0)
    control = unet(position="mlp", position_mean=True)
    inputs = inputs_of(free, 300.0)
    for block, other in zip(blocks(free), blocks(control), strict=True):
        full, mean = block.position(inputs), other.position(inputs)
        assert full.std() > 1e-3
        torch.testing.assert_close(mean, full.mean().expand_as(mean))


@torch.no_grad()
def measure_change(**fields: Any) -> float:
    """Relative change of the output when the level goes from 50 to 900, one level a batch; weights standard normal."""
    network, x = unet(**fields).double(), torch.randn(3, 1, 8, 8, dtype=torch.float64)
    for value in network.parameters():
        value.normal_()
    one, other = (network(x, torch.tensor([level], dtype=torch.float64)) for level in (50.0, 900.0))
    return float((other - one).norm() / one.norm())


BLIND = (
    {"time": "none"},
    {"norm": "batch"},
    {"norm": "instance"},
    {"norm": "instance", "groups_scope": "sites"},
    {"norm": "batch", "groups_scope": "sites"},
)


@pytest.mark.parametrize("fields", BLIND, ids=str)
def test_equation_5_a_blind_unet_does_not_depend_on_the_level_but_with_a_position(fields: dict[str, str]):
    assert measure_change(**fields) < 1e-11
    assert measure_change(**fields, position="mlp") > 1e-3
    for source in ("sinusoid", "level", "mlp"):  # which need no embedding
        assert measure_change(**fields, position="mlp", position_input=source) > 1e-3
    assert measure_change(**fields, position="mlp", position_mean=True) < 1e-11


@pytest.mark.parametrize("fields", [{}, {"norm": "layer"}, {"groups": 4}], ids=str)
def test_other_norms_keep_the_level(fields: dict[str, Any]):
    assert measure_change(**fields) > 1e-3
    # But an offset that all channels share is lost in every norm: the mean of the map is a control everywhere.
    assert measure_change(**fields, time="none", position="mlp", position_mean=True) < 1e-11


def test_instance_norm_at_the_sites_is_as_many_groups_as_channels():
    fields = {"channel_multipliers": [1], "groups_scope": "sites", "attention_sizes": []}
    networks = [unet(**fields, norm="instance"), unet(**fields, groups=ddpm_network().channels)]
    networks[1].load_state_dict(networks[0].state_dict())
    for network in networks:
        torch.manual_seed(1)
        for value in network.parameters():
            nn.init.normal_(value)
    x, level = torch.randn(3, 1, 8, 8), torch.tensor([3.0, 500.0, 900.0])
    assert torch.equal(networks[0](x, level), networks[1](x, level))


def test_batch_norm_knows_the_level_where_a_batch_has_several():
    """In training each image has a level of its own, so v_t is no offset of a whole channel."""
    network, x = unet(norm="batch").double(), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    for value in network.parameters():
        nn.init.normal_(value)
    several, one = torch.tensor([10.0, 900.0]).double(), torch.tensor([10.0]).double()
    assert not torch.allclose(network(x, several), network(x, one))


def test_without_v_the_timestep_branch_is_gone():
    assert not [name for name, _ in unet(time="none").named_parameters() if "time" in name or name.startswith("embed")]
    kept = dict(unet(time="none", position="mlp").named_parameters())
    assert "embed.0.weight" in kept
    assert not [name for name in kept if ".time." in name]


def test_maps_that_blocks_share():
    network = unet(position="mlp", position_maps="resolution")
    assert all(block.position is None for block in blocks(network))
    inputs = inputs_of(network, 300.0)
    maps = network.make_shared_maps(inputs)
    assert {size: tuple(value.shape) for size, value in maps.items()} == {8: (1, 1, 8, 8), 4: (1, 1, 4, 4)}
    network = unet(position="mlp", position_maps="network")
    maps = network.make_shared_maps(inputs_of(network, 300.0))
    torch.testing.assert_close(maps[4], nn.functional.avg_pool2d(maps[8], 2))
    block = blocks(network)[0]
    added = block.embed(inputs_of(network, 300.0), maps[8])
    torch.testing.assert_close(added, block.time(inputs_of(network, 300.0).embedded)[:, :, None, None] + maps[8])


@pytest.mark.parametrize("maps", ["block", "resolution", "network"])
def test_a_map_that_starts_at_zero_starts_as_the_baseline(maps: str):
    network = unet(position="mlp", position_maps=maps, position_init="zero")
    baseline = unet()
    baseline.load_state_dict({name: value for name, value in network.state_dict().items() if "position" not in name})
    x, level = torch.randn(2, 1, 8, 8), torch.tensor([10.0, 900.0])
    for part in (network, baseline):
        torch.manual_seed(1)
        for block in blocks(part):
            nn.init.normal_(block.conv2.weight, std=0.1)
        nn.init.normal_(part.conv_out.weight, std=0.1)
    assert torch.equal(network(x, level), baseline(x, level))
    for name, value in network.named_parameters():
        if name.endswith("pixels.weight"):
            nn.init.normal_(value)
    assert not torch.allclose(network(x, level), baseline(x, level))


def blocks(network: UNet) -> list[ResidualBlock]:
    return [part for part in network.modules() if isinstance(part, ResidualBlock)]


def test_ddpm_groups_are_checked_against_every_norm_of_the_network():
    for fields in ({}, {"channels": 64, "channel_multipliers": [2, 1], "blocks": 2, "groups": 1}):
        network = ddpm_network(**fields)
        norms = {part.num_channels for part in UNet(network, 1, 8, 1000).modules() if isinstance(part, nn.GroupNorm)}
        assert sorted(norms) == network.norm_widths()


def test_the_unet_starts_near_zero_and_knows_the_level():
    network = unet()
    x = torch.randn(3, 1, 8, 8)
    assert network(x, torch.tensor([0.0, 500.0, 999.0])).abs().max() < 1e-3
    block = blocks(network)[0]
    nn.init.normal_(block.conv2.weight, std=0.1)
    h = torch.randn(1, 8, 8, 8)
    first, last = (block(h, inputs_of(network, level), None) for level in (0.0, 999.0))
    assert (first - last).abs().max() > 1e-2


def test_upsampling_is_nearest_neighbour():
    up = Upsample(_Layers(ddpm_network()), 16)
    x = torch.randn(2, 16, 3, 5)
    expected = up.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(up(x), expected, rtol=0, atol=1e-5)  # the kernel's taps are summed beforehand


def test_sinusoid_frequencies_go_from_1_to_1e_minus_4():
    embedded = embed_sinusoidally(torch.tensor([1.0]), 8)
    frequencies = torch.tensor([1.0, 10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4])
    torch.testing.assert_close(embedded[0], torch.cat([frequencies.sin(), frequencies.cos()]))
