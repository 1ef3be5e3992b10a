"""The U-Net: parameter counts, bias rules, its parts."""

import math

import pytest
import torch
from problems import count, ddpm_network
from torch import nn

from pipeline.networks.sinusoid import embed_sinusoidally
from pipeline.networks.unet import ResidualBlock, UNet, Upsample, _Layers


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ("baseline", 35_218_947),
        ("up_attention=each", 35_746_307),
        ("position=mlp", 38_723_763),
        ("position=mlp,zero_bias=conv,groups=1", 38_723_763),
    ],
)
def test_ddpm_parameter_counts(arm: str, expected: int):
    with torch.device("meta"):
        assert count(UNet(ddpm_network("cifar10", arm), 3, 32)) == expected


@pytest.mark.parametrize("zero_bias", ["none", "conv", "time", "all"])
def test_ddpm_bias_rules(zero_bias: str):
    network = UNet(ddpm_network(position="mlp", zero_bias=zero_bias), 1, 8)
    layers = [part for part in network.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    assert sum(isinstance(part, nn.Linear) for part in layers) == 2 + 2 * len(blocks(network))
    for layer in layers:
        branch = "time" if isinstance(layer, nn.Linear) else "conv"
        bound = 1 / math.sqrt(layer.weight[0].numel())
        largest = layer.bias.abs().max()
        assert (largest == 0) if zero_bias in (branch, "all") else (0 < largest <= bound)


def blocks(network: UNet) -> list[ResidualBlock]:
    return [part for part in network.modules() if isinstance(part, ResidualBlock)]


def test_ddpm_groups_are_checked_against_every_norm_of_the_network():
    for fields in ({}, {"channels": 64, "channel_multipliers": [2, 1], "blocks": 2, "groups": 1}):
        network = ddpm_network(**fields)
        norms = {part.num_channels for part in UNet(network, 1, 8).modules() if isinstance(part, nn.GroupNorm)}
        assert sorted(norms) == network.norm_widths()


def test_the_unet_starts_near_zero_and_knows_the_level():
    network = UNet(ddpm_network(), 1, 8)
    x = torch.randn(3, 1, 8, 8)
    assert network(x, torch.tensor([0.0, 500.0, 999.0])).abs().max() < 1e-3
    block = blocks(network)[0]
    nn.init.normal_(block.conv2.weight, std=0.1)
    h = torch.randn(1, 16, 8, 8)
    levels = [nn.functional.silu(network.embed(embed_sinusoidally(torch.tensor([t]), 16))) for t in (0.0, 999.0)]
    assert (block(h, levels[0]) - block(h, levels[1])).abs().max() > 1e-2


def test_upsampling_is_nearest_neighbour():
    up = Upsample(_Layers(ddpm_network()), 16)
    x = torch.randn(2, 16, 3, 5)
    expected = up.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert torch.equal(up(x), expected)


def test_sinusoid_frequencies_go_from_1_to_1e_minus_4():
    embedded = embed_sinusoidally(torch.tensor([1.0]), 8)
    frequencies = torch.tensor([1.0, 10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4])
    torch.testing.assert_close(embedded[0], torch.cat([frequencies.sin(), frequencies.cos()]))
