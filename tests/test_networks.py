"""The paper's equations on the real modules, parameter counts, bias rules, function evaluations."""

import math

import pytest
import torch
from problems import count, ddpm_network, node_network
from torch import nn

from pipeline.networks.node import NodeClassifier, OdeFunction, ode_size
from pipeline.networks.norms import make_norm
from pipeline.networks.sinusoid import embed_sinusoidally
from pipeline.networks.timed_conv import TimedConv2d
from pipeline.networks.unet import ResidualBlock, UNet, Upsample, _Layers
from pipeline.ode.solve import solve

NODE_ARMS = ["baseline", "norm=batch", "position=linear", "time=mlp,zero_bias=all", "time=mlp,position=linear"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def timed_conv(time: str = "concat", position: str = "none", zero_bias: str = "none", channels: int = 6) -> TimedConv2d:
    return TimedConv2d(channels, 7, time, position, zero_bias, nn.ReLU)  # type: ignore[arg-type]


def test_equation_4_concat_conv_is_a_convolution_plus_t_times_a_constant_in_the_interior():
    conv = timed_conv().double()
    x = torch.randn(2, 6, 7, 7, dtype=torch.float64)
    t = torch.tensor(0.7, dtype=torch.float64)
    weight = conv.conv.weight
    plain = nn.functional.conv2d(x, weight[:, 1:], conv.conv.bias, padding=1)
    v = weight[:, 0].sum((1, 2)).view(1, -1, 1, 1)
    difference = conv(t, x) - (plain + t * v)
    torch.testing.assert_close(
        difference[..., 1:-1, 1:-1], torch.zeros_like(difference[..., 1:-1, 1:-1]), atol=1e-14, rtol=0
    )
    assert difference[..., 0, :].abs().max() > 1e-3  # zero padding makes the border differ


def test_equation_6_the_position_is_shared_by_the_channels_and_differs_between_pixels():
    conv = timed_conv(position="linear").double()
    x = torch.randn(2, 6, 7, 7, dtype=torch.float64)
    t = torch.tensor(0.7, dtype=torch.float64)
    with_position = conv(t, x)
    p, conv.position = conv.position, None
    added = with_position - conv(t, x)
    torch.testing.assert_close(added, (t * p).expand_as(added), atol=1e-14, rtol=0)
    assert p.shape == (1, 1, 7, 7)
    assert p.std() > 0


def test_position_starts_as_wide_as_v():
    conv = TimedConv2d(256, 64, "concat", "linear", "none", nn.ReLU)
    v = conv.conv.weight[:, 0].sum((1, 2))
    expected = math.sqrt(3) / math.sqrt(9 * 257)
    assert v.std().item() == pytest.approx(expected, rel=0.15)
    assert conv.position is not None
    assert conv.position.std().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("training", [True, False])
def test_equation_5_batch_norm_cancels_an_offset_per_channel_exactly(training: bool):
    norm = make_norm("batch", 8, 4).double().train(training)
    x = torch.randn(4, 8, 5, 5, dtype=torch.float64)
    offset = torch.randn(1, 8, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(norm(x + offset), norm(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("groups", "cancels"), [(8, True), (4, False), (2, False), (1, False)])
def test_group_norm_cancels_an_offset_only_with_one_channel_a_group(groups: int, cancels: bool):
    norm = make_norm("group", 8, groups).double()
    x = torch.randn(4, 8, 5, 5, dtype=torch.float64)
    offset = torch.randn(1, 8, 1, 1, dtype=torch.float64)
    change = (norm(x + offset) - norm(x)).abs().max()
    assert (change < 1e-12) if cancels else (change > 0.1)


def time_dependence(network_fields: dict[str, object]) -> float:
    """Largest change of the ODE function from t = 0 to t = 1, in float64."""
    field = OdeFunction(node_network(**network_fields), 4).double()
    x = torch.randn(8, 32, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        start, end = (field(torch.tensor(t, dtype=torch.float64), x) for t in (0.0, 1.0))
    return (end - start).abs().max().item()


def test_the_embedding_disappears_from_the_ode_function_and_a_position_brings_it_back():
    gone = {"time": "mlp", "zero_bias": "none"}
    for norm in ({"norm": "batch"}, {"norm": "group", "groups": 32, "stem_channels": 32}):
        assert time_dependence({**gone, **norm}) < 1e-12
        assert time_dependence({**gone, **norm, "position": "linear"}) > 1e-2
    assert time_dependence({**gone, "groups": 8}) > 1e-2
    assert time_dependence({"norm": "batch", "time": "concat"}) > 1e-3  # through the border alone


@pytest.mark.parametrize(
    ("dataset", "arm", "classes", "expected"),
    [
        ("cifar10", "baseline", 10, 2_023_562),
        ("cifar100", "baseline", 100, 2_046_692),
        ("cifar10", "channels=64", 10, 234_122),
        ("cifar100", "channels=64", 100, 239_972),
        ("cifar10", "norm=batch", 10, 2_023_562),
        ("cifar10", "groups=1", 10, 2_023_562),
        ("cifar10", "position=linear", 10, 2_023_562 + 128),
        ("cifar10", "time=mlp", 10, 2_023_562 - 2 * 9 * 256 + 132_608),
    ],
)
def test_node_parameter_counts(dataset: str, arm: str, classes: int, expected: int):
    with torch.device("meta"):
        assert count(NodeClassifier(node_network(dataset, arm), 3, 32, classes)) == expected


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


def test_the_ode_block_sees_8x8_on_cifar_and_3x3_on_digits():
    assert (ode_size(32), ode_size(12)) == (8, 3)
    stem = NodeClassifier(node_network(), 1, 12, 10).stem
    assert stem(torch.zeros(1, 1, 12, 12)).shape == (1, 32, 3, 3)


@pytest.mark.parametrize("zero_bias", ["none", "conv", "time", "all"])
def test_node_bias_rules(zero_bias: str):
    field = OdeFunction(node_network(time="mlp", zero_bias=zero_bias), 4)
    for site in (field.conv1, field.conv2):
        assert site.embed is not None
        for branch, layers in (("conv", [site.conv]), ("time", [site.embed[0], site.embed[2]])):
            for layer in layers:
                fan_in = layer.weight[0].numel()
                if zero_bias in (branch, "all"):
                    assert layer.bias.abs().max() == 0
                else:
                    assert 0.5 / math.sqrt(fan_in) < layer.bias.abs().max() <= 1 / math.sqrt(fan_in)


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


def test_with_zero_biases_the_relu_embedding_is_linear_in_time():
    """MLP(t) is positively homogeneous without biases, so `all` starts as the linear-time design."""
    site = timed_conv(time="mlp", zero_bias="all")
    assert site.embed is not None
    at = [site.embed(torch.tensor([[t]])) for t in (0.5, 1.0)]
    torch.testing.assert_close(2 * at[0], at[1])


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


@pytest.mark.parametrize(("activation", "nfe"), [("relu", 26), ("silu", 20), ("elu", 20), ("sigmoid", 14)])
def test_function_evaluations_at_initialisation(activation: str, nfe: int):
    """C = 64 at 8x8 as measured in the reference set-up; sigmoid replaced in the ODE function only."""
    network = node_network("cifar10", channels=64, activation=activation, activation_scope="ode")
    field = OdeFunction(network, 8)
    with torch.no_grad():
        assert solve(field, torch.randn(16, 64, 8, 8), "dopri5", 1e-3, 1e-3, "adjoint").nfe == nfe


@pytest.mark.parametrize("arm", NODE_ARMS)
def test_the_adjoint_gives_every_parameter_of_the_field_its_gradient(arm: str):
    """Parameters that f uses but does not own would get none, silently."""
    x = torch.randn(4, 32, 4, 4, dtype=torch.float64)
    target = torch.randn(4, 32, 4, 4, dtype=torch.float64)
    torch.manual_seed(1)
    field = OdeFunction(node_network(arm=arm, activation="silu"), 4).double()
    gradients = []
    for gradient in ("direct", "adjoint"):
        field.zero_grad()
        solution = solve(field, x, "dopri5", 1e-8, 1e-8, gradient)  # type: ignore[arg-type]
        (solution.x * target).sum().backward()
        assert all(value.grad is not None for value in field.parameters())
        gradients.append(torch.cat([value.grad.flatten() for value in field.parameters()]))  # type: ignore[union-attr]
    assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 1e-5
