"""The NODE classifier: the paper's equations on the real modules, counts, initialisation, evaluations, gradients."""

import math

import pytest
import torch
from problems import count, node_network
from torch import Tensor, nn

from pipeline.layers.norms import make_norm
from pipeline.ode.field import FrozenField
from pipeline.ode.solve import backpropagate, solve
from pipeline.studies.node.derived import ode_width
from pipeline.studies.node.network import NodeClassifier, OdeFunction, make_method, ode_size
from pipeline.studies.node.study import NodeNetwork
from pipeline.studies.node.time_awareness import TIMES, measure_time_awareness
from pipeline.studies.node.timed_conv import Position, TimedConv2d
from pipeline.studies.theory.measure import list_designs, measure_theory
from pipeline.studies.theory.study import Features, TheoryRun

SIZE = 5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small(**fields: object) -> NodeNetwork:
    return node_network(**{"channels": 8, "stem_channels": 8, "groups": 4, **fields})


def features(channels: int = 8) -> Tensor:
    return torch.randn(3, channels, SIZE, SIZE, dtype=torch.float64)


def at(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_equation_4_the_site_is_the_convolution_of_input_and_time_channel_concatenated(padding: str):
    """Ours adds t v; ConcatConv as the paper has it concatenates. Equal everywhere, border and gradients included."""
    site = TimedConv2d(small(padding=padding), SIZE).double()
    x, t = features().requires_grad_(), at(0.7).requires_grad_()
    mode = "circular" if padding == "circular" else "constant"
    stacked = nn.functional.pad(torch.cat([t.expand_as(x[:, :1]), x], 1), (1, 1, 1, 1), mode)
    expected = nn.functional.conv2d(stacked, site.weight, site.bias)
    torch.testing.assert_close(site(t, x), expected, atol=1e-13, rtol=0)
    target = torch.randn_like(expected)
    inputs = (x, t, site.weight, site.bias)
    ours = torch.autograd.grad((site(t, x) * target).sum(), inputs)
    theirs = torch.autograd.grad((expected * target).sum(), inputs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_equation_4_v_is_the_sum_of_the_kernel_in_the_interior_and_less_at_a_border_of_zeros():
    site = TimedConv2d(small(), SIZE).double()
    x = features()
    v = site(at(1.0), x) - site(at(0.0), x)
    constant = site.weight[:, 0].sum((1, 2)).view(1, -1, 1, 1).expand_as(v)
    torch.testing.assert_close(v[..., 1:-1, 1:-1], constant[..., 1:-1, 1:-1], atol=1e-13, rtol=0)
    assert (v - constant)[..., 0, :].abs().max() > 1e-3
    circular = TimedConv2d(small(padding="circular"), SIZE).double()
    v = circular(at(1.0), x) - circular(at(0.0), x)
    torch.testing.assert_close(v, circular.weight[:, 0].sum((1, 2)).view(1, -1, 1, 1).expand_as(v), atol=1e-13, rtol=0)


def test_equation_6_the_position_is_shared_by_the_channels_and_differs_between_pixels():
    field = OdeFunction(small(position="linear"), SIZE).double()
    plain = OdeFunction(small(), SIZE).double()
    plain.load_state_dict({name: value for name, value in field.state_dict().items() if "position" not in name})
    x = features()
    for site in (0, 1):
        added = field.convolve(site, at(0.7), x) - plain.convolve(site, at(0.7), x)
        p = field.positions[site].p
        torch.testing.assert_close(added, (0.7 * p).expand_as(added), atol=1e-13, rtol=0)
        assert p.shape == (1, 1, SIZE, SIZE)
        assert p.std() > 0
    assert not torch.equal(field.positions[0].p, field.positions[1].p)


@pytest.mark.parametrize(("sites", "maps"), [("separate", 2), ("shared", 1), ("first", 1)])
def test_position_sites(sites: str, maps: int):
    field = OdeFunction(small(position="linear", position_sites=sites), SIZE).double()
    assert len(field.positions) == maps
    x = features()
    silent = OdeFunction(small(), SIZE).double()
    silent.load_state_dict({name: value for name, value in field.state_dict().items() if "position" not in name})
    second = field.convolve(1, at(1.0), x) - silent.convolve(1, at(1.0), x)
    assert (second.abs().max() > 0) == (sites != "first")
    if sites == "shared":
        torch.testing.assert_close(second[0, 0], field.positions[0].p[0, 0], atol=1e-13, rtol=0)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("position", ["linear", "mlp"])
def test_equation_5_the_mean_of_the_position_is_lost_as_v_is(norm: str, position: str):
    """The control has the map's parameters and no more time than without a map."""
    x, states = features(), []
    for mean in (False, True):
        field = OdeFunction(small(norm=norm, time="linear", position=position, position_mean=mean), SIZE).double()
        field.load_state_dict(states[0] if states else field.state_dict())
        states.append(field.state_dict())
        change = (field(at(1.0), x) - field(at(0.0), x)).norm() / field(at(0.0), x).norm()
        assert (change < 1e-12) if mean else (change > 1e-3)
        p = field.positions[0](at(0.7), at(0.7).view(1, 1))
        assert (p - p.mean()).abs().max() == 0 if mean else p.std() > 1e-3
    whole = OdeFunction(small(position=position), SIZE).double()
    control = OdeFunction(small(position=position, position_mean=True), SIZE).double()
    control.load_state_dict(whole.state_dict())
    maps = [field.positions[1](at(0.7), at(0.7).view(1, 1)) for field in (whole, control)]
    torch.testing.assert_close(maps[1].flatten(), maps[0].mean().view(1))


@pytest.mark.parametrize(
    ("fields", "blind"),
    [
        ({"time": "none"}, True),
        ({"norm": "batch", "time": "linear"}, True),
        ({"norm": "batch", "padding": "circular"}, True),
        ({"norm": "instance", "time": "mlp"}, True),
        ({"time": "linear"}, False),
        ({"norm": "batch"}, False),  # the border of zeros
        ({"norm": "batch", "time": "linear", "position": "linear"}, False),
    ],
    ids=str,
)
def test_frozen_time_costs_a_blind_network_nothing(fields: dict[str, object], blind: bool):
    model, x = NodeClassifier(small(**fields), 1, 12, 10).eval(), torch.randn(8, 1, 12, 12)
    with torch.no_grad():
        free, frozen = model(x), model(x, 0.5)
    gap = (frozen.logits - free.logits).abs().max()
    assert (gap < 1e-5) if blind else (gap > 1e-3)


def test_frozen_time_is_the_middle_at_every_evaluation():
    seen: list[float] = []

    class Spy(nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            seen.append(t.item())
            return t * x

    solution = solve(FrozenField(Spy(), 0.5), torch.ones(1, 1, dtype=torch.float64), make_method(small(rtol=1e-9)))
    assert len(seen) == solution.nfe
    assert set(seen) == {0.5}
    assert solution.x.item() == pytest.approx(math.exp(0.5), rel=1e-3)


def test_position_starts_as_wide_as_v():
    network = node_network("cifar10", position="linear")
    v = TimedConv2d(network, 8).weight[:, 0].sum((1, 2))
    expected = math.sqrt(3) / math.sqrt(9 * 257)
    assert v.std().item() == pytest.approx(expected, rel=0.15)
    p = Position(network, 64).p
    assert p is not None
    assert p.std().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("init", "low", "high"), [("zeros", 0, 0), ("ones", 1, 1), ("uniform", -1, 1)])
def test_position_initialisations(init: str, low: float, high: float):
    p = Position(small(position="linear", position_init=init), 32).p
    assert p is not None
    bound = 1 / math.sqrt(9 * 9) if init == "uniform" else 1.0
    assert p.min().item() == pytest.approx(low * bound, rel=0.02)
    assert p.max().item() == pytest.approx(high * bound, rel=0.02)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("training", [True, False])
def test_equation_5_an_offset_per_channel_cancels_where_each_channel_is_normalised_by_itself(norm: str, training: bool):
    layer = make_norm(norm, 8, 5, 4).double().train(training)  # type: ignore[arg-type]
    x, offset = features(), torch.randn(1, 8, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(layer(x + offset), layer(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("norm", "groups", "cancels"), [("group", g, g == 8) for g in (8, 4, 2, 1)] + [("layer", 1, 0)]
)
def test_group_norm_cancels_an_offset_only_with_one_channel_a_group(norm: str, groups: int, cancels: bool):
    layer = make_norm(norm, 8, 5, groups).double()  # type: ignore[arg-type]
    x, offset = features(), torch.randn(1, 8, 1, 1, dtype=torch.float64)
    change = (layer(x + offset) - layer(x)).abs().max()
    assert (change < 1e-12) if cancels else (change > 0.1)


def test_running_statistics_do_not_cancel_in_evaluation():
    """with averages kept in training, batch norm is a fixed affine map in evaluation."""
    layer = make_norm("batch", 8, 5, 4, "running").double()
    x, offset = features(), torch.randn(1, 8, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(layer(x + offset), layer(x), atol=1e-12, rtol=0)
    layer.eval()
    assert (layer(x + offset) - layer(x)).abs().max() > 0.1


def test_layer_norm_has_weights_for_each_element_and_the_statistics_of_one_group():
    x = features()
    layer, group = make_norm("layer", 8, 5, 4).double(), make_norm("group", 8, 5, 1).double()
    torch.testing.assert_close(layer(x), group(x), atol=1e-13, rtol=0)
    assert (count(layer), count(group)) == (2 * 8 * 25, 2 * 8)


def test_every_cell_that_equation_5_calls_zero_is_zero_and_no_other():
    """The study `theory`, with fewer channels, as the stage measures it."""
    features = Features(channels=8)
    record = measure_theory(TheoryRun(case="features", arm="baseline", seed=1, design=features))
    cells = record.cells
    assert len(cells) == len(list_designs(8))
    assert sum(cell.vanishes for cell in cells) == 2 * (1 + 2 + 2)  # norms x (concat circular, linear both, mlp both)
    for cell in cells:
        assert (cell.change < 1e-12) if cell.vanishes else (cell.change > 1e-2), cell
    assert (record.lost < 1e-12, record.lost_exact, record.kept > 1e-2) == (True, 0.0, True)


def test_the_border_of_zeros_is_what_batch_norm_leaves_of_a_concatenated_channel():
    h = torch.randn(4, 8, 8, 8, dtype=torch.float64)
    changes = {}
    for norm, groups in (("group", 4), ("batch", 4)):
        field = OdeFunction(small(norm=norm, groups=groups), 8).double()
        changes[norm] = measure_time_awareness(field, h).change[-1]
    assert 0.01 < changes["batch"] < changes["group"]


def test_time_awareness_of_a_function_that_is_known():
    """f = norm3(W x + t v) with W = 0 at the second site: the normalised sum is +-1 times the sign of t v's groups."""
    field = OdeFunction(small(time="linear", groups=1), SIZE).double()
    nn.init.zeros_(field.conv2.weight)
    nn.init.zeros_(field.conv2.bias)
    v = field.conv2.v
    assert v is not None
    awareness = measure_time_awareness(field, features())
    assert awareness.times == list(TIMES)
    # At t = 0 the sum is zero and so is its normalisation; at any other t it is v standardised, up to eps.
    assert awareness.site_change[1] == [None] * 4
    standard = (v - v.mean()) / v.std(correction=0)
    norm = field.norm3(torch.zeros(1, 8, SIZE, SIZE, dtype=torch.float64) + v.view(1, -1, 1, 1))
    torch.testing.assert_close(norm[0, :, 0, 0], standard, atol=1e-2, rtol=0)
    # The variance over t is that between 0 and four times nearly v: 4/5 - (4/5)^2 of v^2, of 4/5 in all.
    assert awareness.site_share[1] == pytest.approx(1 / 5, abs=0.02)
    no_time = measure_time_awareness(OdeFunction(small(time="none"), SIZE).double(), features())
    assert no_time.change == [0.0] * 4
    assert no_time.site_share == [0.0, 0.0]


@pytest.mark.parametrize(
    ("dataset", "arm", "classes", "expected"),
    [
        ("cifar10", "baseline", 10, 2_023_562),
        ("cifar100", "baseline", 100, 2_046_692),
        ("cifar10", "channels=64", 10, 234_122),
        ("cifar100", "channels=64", 100, 239_972),
        ("cifar10", "norm=batch", 10, 2_023_562),
        ("cifar10", "norm=instance", 10, 2_023_562),
        ("cifar10", "groups=1", 10, 2_023_562),
        ("cifar10", "position=linear", 10, 2_023_562 + 128),
        ("cifar10", "position=linear,position_sites=shared", 10, 2_023_562 + 64),
        ("cifar10", "time=mlp", 10, 2_023_562 - 2 * 9 * 256 + 132_608),
        ("cifar10", "time=linear", 10, 2_023_562 - 2 * 9 * 256 + 512),
        ("cifar10", "time=concat+mlp", 10, 2_023_562 + 132_608),
        ("cifar10", "block=none", 10, 834_176 + 3_082),
        ("cifar10", "block=none,channels=64", 10, 157_952 + 778),
    ],
)
def test_parameter_counts(dataset: str, arm: str, classes: int, expected: int):
    with torch.device("meta"):
        assert count(NodeClassifier(node_network(dataset, arm), 3, 32, classes)) == expected


def test_the_ode_block_sees_8x8_on_cifar_and_3x3_on_digits():
    assert (ode_size(32), ode_size(12)) == (8, 3)
    network = node_network()
    stem = NodeClassifier(network, 1, 12, 10).stem
    assert stem(torch.zeros(1, 1, 12, 12)).shape == (1, network.channels, 3, 3)


def test_scopes_say_where_norm_groups_and_activation_apply():
    def kinds(network: NodeNetwork) -> tuple[set[str], set[str]]:
        model = NodeClassifier(network, 1, 12, 10)
        assert model.field is not None
        inner, outer = set(), set()
        for found, part in ((inner, model.field), (outer, nn.ModuleList([model.stem, model.head]))):
            for layer in part.modules():
                if isinstance(layer, nn.GroupNorm):
                    found.add(f"G{layer.num_groups}")
                elif isinstance(layer, nn.BatchNorm2d | nn.ReLU | nn.SiLU):
                    found.add(type(layer).__name__)
        return inner, outer

    everywhere = small(norm="batch", activation="silu", activation_scope="all")
    assert kinds(everywhere) == ({"BatchNorm2d", "SiLU"}, {"BatchNorm2d", "SiLU"})
    within = small(norm="batch", norm_scope="ode", activation="silu", activation_scope="ode")
    assert kinds(within) == ({"BatchNorm2d", "SiLU"}, {"G4", "ReLU"})
    assert kinds(small(groups=2)) == ({"G2", "ReLU"}, {"G2", "ReLU"})
    assert kinds(small(groups=2, groups_scope="ode", outer_groups=8)) == ({"G2", "ReLU"}, {"G8", "ReLU"})


@pytest.mark.parametrize("zero_bias", ["none", "conv", "time", "all"])
@pytest.mark.parametrize("sites", ["separate", "shared"])
def test_table_2_the_row_names_the_branch_that_starts_at_zero(zero_bias: str, sites: str):
    field = OdeFunction(small(time="mlp", zero_bias=zero_bias, embedding_sites=sites), 4)
    branches: dict[str, list[tuple[Tensor, int]]] = {"conv": [], "time": []}
    for site in (field.conv1, field.conv2):
        branches["conv"].append((site.bias, site.weight[0].numel()))
    for layer in field.modules():
        if isinstance(layer, nn.Linear):
            branches["time"].append((layer.bias, layer.in_features))
    assert len(branches["time"]) == 4
    for branch, biases in branches.items():
        for bias, fan_in in biases:
            if zero_bias in (branch, "all"):
                assert bias.abs().max() == 0
            else:
                assert 0.3 / math.sqrt(fan_in) < bias.abs().max() <= 1 / math.sqrt(fan_in)


def test_zero_bias_reaches_stem_and_head_only_if_asked():
    for scope, zero in (("ode", False), ("all", True)):
        model = NodeClassifier(small(zero_bias="conv", zero_bias_scope=scope), 1, 12, 10)
        assert (model.stem[0].bias.abs().max() == 0) == zero
        assert (model.head[-1].bias.abs().max() == 0) == zero


def test_with_zero_biases_the_relu_embedding_is_linear_in_time():
    """MLP(t) is positively homogeneous without biases, so `all` starts as the linear-time design."""
    site = TimedConv2d(small(time="mlp", zero_bias="all"), SIZE)
    assert site.embed is not None
    values = [site.embed(torch.tensor([[t]])) for t in (0.5, 1.0)]
    torch.testing.assert_close(2 * values[0], values[1])


@pytest.mark.parametrize("std", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("time_too", [False, True])
def test_figure_6_the_initial_weights_are_as_wide_as_asked(std: float, distribution: str, time_too: bool):
    network = small(channels=32, groups=16, weight_std=std, weight_distribution=distribution, weight_std_time=time_too)
    for site in (OdeFunction(network, SIZE).conv1, OdeFunction(network, SIZE).conv2):
        assert site.weight[:, 1:].std().item() == pytest.approx(std, rel=0.05)
        if distribution == "uniform":
            assert site.weight[:, 1:].abs().max().item() == pytest.approx(math.sqrt(3) * std, rel=0.05)
        bound = 1 / math.sqrt(9 * 33)
        expected = std if time_too else bound / math.sqrt(3)
        assert site.weight[:, 0].std().item() == pytest.approx(expected, rel=0.2)
        assert site.bias.abs().max() <= bound


def test_the_default_initialisation_is_pytorchs():
    site = TimedConv2d(node_network("cifar10"), 8)
    torch.manual_seed(3)
    reference = nn.Conv2d(257, 256, 3)
    torch.manual_seed(3)
    site = TimedConv2d(node_network("cifar10"), 8)
    assert torch.equal(site.weight, reference.weight)
    assert torch.equal(site.bias, reference.bias)
    assert site.weight.std().item() == pytest.approx(0.01200, rel=0.01)


@pytest.mark.parametrize(
    ("fields", "nfe"),
    [
        ({"activation": "relu"}, 26),
        ({"activation": "silu"}, 20),
        ({"activation": "elu"}, 20),
        ({"activation": "sigmoid"}, 14),
        ({"norm": "batch"}, 26),
        ({"groups": 1}, 26),
        ({"groups": 8}, 26),
        ({"groups": 64}, 26),
        ({"channels": 256}, 26),
    ],
    ids=str,
)
@pytest.mark.parametrize("implementation", ["native", "torchdiffeq"])
def test_function_evaluations_at_initialisation(fields: dict[str, object], nfe: int, implementation: str):
    """On random images, as measured in the reference set-up; activations in the ODE function only."""
    fields = {"channels": 64, "activation_scope": "ode", "implementation": implementation, **fields}
    network = node_network("cifar10", **fields)
    images = torch.randn(4 if network.channels == 256 else 16, 3, 32, 32)
    with torch.no_grad():
        solution = NodeClassifier(network, 3, 32, 10)(images).solution
    assert solution.nfe == nfe


FIELDS: list[dict[str, object]] = [
    *({"time": time} for time in ("none", "concat", "linear", "mlp", "concat+mlp")),
    *({"position": position} for position in ("linear", "mlp")),
    *({"position": "linear", "position_sites": sites} for sites in ("shared", "first")),
    {"time": "mlp", "position": "mlp"},
    {"time": "mlp", "embedding_sites": "shared"},
    {"time": "mlp", "embedding_input": "sinusoid", "embedding_activation": "silu"},
    {"time": "concat+mlp", "position": "linear", "embedding_sites": "shared"},
    *({"norm": norm} for norm in ("batch", "instance", "layer")),
    {"padding": "circular"},
    {"augment_channels": 4},
    *({"position": position, "position_mean": True} for position in ("linear", "mlp")),
]


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_every_gradient_is_that_of_automatic_differentiation(fields: dict[str, object]):
    """Parameters that f uses but does not own would get none, silently.

    The reference, torchdiffeq's direct solve, is plain automatic differentiation and sees whatever f uses.
    """
    torch.manual_seed(1)
    network = small(**{"activation": "silu", "rtol": 1e-8, "atol": 1e-8, **fields})
    field = OdeFunction(network, SIZE).double()
    x = features(ode_width(network)).requires_grad_()
    target = torch.randn_like(x)
    gradients = {}
    for implementation, gradient in (("torchdiffeq", "direct"), ("native", "direct"), ("native", "adjoint")):
        method = make_method(network.model_copy(update={"implementation": implementation, "gradient": gradient}))
        field.zero_grad()
        x.grad = None
        backpropagate((solve(field, x, method).x * target).sum())
        parts = [
            value.grad if value.grad is not None else torch.zeros_like(value) for value in (x, *field.parameters())
        ]
        gradients[implementation, gradient] = torch.cat([part.flatten() for part in parts])
    reference = gradients.pop(("torchdiffeq", "direct"))
    assert reference.norm() > 0
    for name, gradient in gradients.items():
        assert (gradient - reference).norm() / reference.norm() < 1e-5, name


def test_a_parameter_unused_by_f_is_the_only_one_without_a_gradient():
    """Every parameter of every design moves: none is left out of f's graph."""
    for fields in FIELDS:
        network = small(**{"activation": "silu", **fields})
        model = NodeClassifier(network, 1, 12, 10)
        backpropagate(model(torch.randn(4, 1, 12, 12)).logits.pow(2).sum())
        silent = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
        # A channel normalised by itself keeps no offset: the biases before it get zero, up to rounding.
        assert [name for name in silent if "bias" not in name] == [], fields


def test_without_an_ode_block_there_is_no_solve():
    model = NodeClassifier(small(block="none"), 1, 12, 10)
    classified = model(torch.randn(4, 1, 12, 12))
    assert classified.solution is None
    assert classified.logits.shape == (4, 10)


def test_augmented_channels_start_at_zero_and_reach_the_head():
    model = NodeClassifier(small(augment_channels=4), 1, 12, 10)
    h = model.extract(torch.randn(2, 1, 12, 12))
    assert h.shape[1] == 12
    assert h[:, 8:].abs().max() == 0
    assert model.head[-1].in_features == 12
