"""What the schematic is drawn from, against the modules: sums, names, counts, closed forms, what a norm cancels."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from problems import count, ddpm_network, node_network
from torch.utils.flop_counter import FlopCounterMode

from pipeline.audit.architecture import (
    DDPM_REMEDIES,
    MEASURES,
    NODE_REMEDIES,
    SEEDS,
    measure_node,
    measure_unet,
    vary,
)
from pipeline.audit.outline import isolate, outline_site
from pipeline.audit.site import Site, find_node_site, find_unet_site
from pipeline.schema.architecture import EXACT, Architecture, Branch, Design, Outline
from pipeline.schema.document import read_document, write_document
from pipeline.schema.panel import More
from pipeline.schema.project import Project
from pipeline.studies.ddpm.level_awareness import measure_level_awareness
from pipeline.studies.ddpm.unet import UNet
from pipeline.studies.node.network import NodeClassifier, ode_size
from pipeline.studies.node.time_awareness import measure_time_awareness

SIZE, LEVELS = 20, 1000  # 20 pixels: 5x5 at the ODE function, so there is an interior
C = 8
NODE_SITES: list[dict[str, Any]] = [
    {},
    {"padding": "circular"},
    {"time": "none"},
    {"time": "linear"},
    {"time": "mlp"},
    {"time": "concat+mlp"},
    {"time": "mlp", "embedding_input": "sinusoid"},
    {"time": "mlp", "embedding_sites": "shared"},
    {"position": "linear"},
    {"position": "mlp", "time": "linear"},
    {"position": "linear", "position_sites": "shared", "time": "mlp"},
]
DDPM_SITES: list[dict[str, Any]] = [
    {},
    *({"position": "mlp", "position_input": kind} for kind in ("embedding", "sinusoid", "mlp", "level")),
    *({"position": "mlp", "position_maps": kind} for kind in ("resolution", "network")),
    {"position": "mlp", "position_mean": True},
]


def classifier(**fields: Any) -> NodeClassifier:
    torch.manual_seed(0)
    narrow = {"channels": C, "stem_channels": C, "groups": 4, "outer_groups": 4}
    return NodeClassifier(node_network(**{**narrow, **fields}), 1, SIZE, 10)


def unet(**fields: Any) -> UNet:
    torch.manual_seed(0)
    return UNet(ddpm_network(**fields), 1, 8, LEVELS)


def outline_node(**fields: Any) -> Outline:
    return outline_site([find_node_site(classifier(**fields))])


def outline_unet(**fields: Any) -> Outline:
    return outline_site([find_unet_site(unet(**fields))])


def branch(outline: Outline, kind: str) -> Branch:
    (found,) = [one for one in outline.branches if one.kind == kind]
    return found


def check_sum(site: Site) -> None:
    for t in site.times:
        parts = sum(isolate(site, addend, t) for addend in site.addends)
        torch.testing.assert_close(parts, site.add(t), rtol=0, atol=1e-12)


@pytest.mark.parametrize("fields", NODE_SITES, ids=str)
def test_the_branches_of_a_node_add_up_to_its_site_and_nothing_is_left_changed(fields: dict[str, Any]):
    site = find_node_site(classifier(**fields))
    before = site.add(1.0)
    check_sum(site)
    torch.testing.assert_close(site.add(1.0), before, rtol=0, atol=0)


@pytest.mark.parametrize("fields", DDPM_SITES, ids=str)
def test_the_branches_of_a_block_add_up_to_its_site(fields: dict[str, Any]):
    check_sum(find_unet_site(unet(**fields, zero_bias="none")))


def check_names(outline: Outline, network: torch.nn.Module) -> None:
    """Every name is in the state_dict, and a slice of it has the shape that is told."""
    state = network.state_dict()
    for parameter in [*(one for part in outline.branches for one in part.parameters), *outline.norm.parameters]:
        name, cut = re.fullmatch(r"([\w.]+)(?:\[:, (.+)\])?", parameter.name).groups()
        shape = list(state[name].shape)
        if cut is not None:
            assert cut in ("1:", ":1")
            shape[1] = 1 if cut == ":1" else shape[1] - 1
        assert parameter.shape == shape, parameter.name


def own_count(outline: Outline) -> int:
    return sum(one.count for part in outline.branches for one in part.parameters if not one.shared)


@pytest.mark.parametrize("fields", NODE_SITES, ids=str)
def test_a_node_sites_parameters_are_those_of_its_modules(fields: dict[str, Any]):
    network = classifier(**fields)
    field, outline = network.field, outline_site([find_node_site(network)])
    assert field is not None
    check_names(outline, network)
    separate = field.positions and fields.get("position_sites") != "shared"
    assert own_count(outline) == count(field.conv1) + (count(field.positions[0]) if separate else 0)
    shared = {one.name for part in outline.branches for one in part.parameters if one.shared}
    assert bool(shared) == ("shared" in fields.values())
    assert outline.sites == 2


@pytest.mark.parametrize("fields", DDPM_SITES, ids=str)
def test_a_blocks_parameters_are_those_of_its_modules(fields: dict[str, Any]):
    network = unet(**fields)
    block, outline = network.list_blocks()[0], outline_site([find_unet_site(network)])
    check_names(outline, network)
    own = [block.conv1, block.time, *([block.position] if block.position is not None else [])]
    assert own_count(outline) == sum(map(count, own))
    assert outline.sites == len(network.list_blocks()) == 8


def zeros(outline: Outline) -> set[str]:
    return {one.name for part in outline.branches for one in part.parameters if one.zero}


def test_parameters_that_start_at_zero_are_exactly_those_of_zero_bias():
    conv = {"field.conv1.bias"}
    time = {"field.conv1.embed.0.bias", "field.conv1.embed.2.bias"}
    for which, expected in {"none": set(), "conv": conv, "time": time, "all": conv | time}.items():
        assert zeros(outline_node(time="mlp", zero_bias=which)) == expected
    conv, time = {"down.0.0.conv1.bias"}, {"down.0.0.time.bias", "embed.0.bias", "embed.2.bias"}
    for which, expected in {"none": set(), "conv": conv, "time": time, "all": conv | time}.items():
        assert zeros(outline_unet(zero_bias=which)) == expected


def test_where_a_branch_can_vary_is_measured_also_where_it_starts_at_zero():
    outline = outline_node(time="mlp", zero_bias="all", position="linear")
    assert {one.kind: (one.of, one.shape) for one in outline.branches} == {
        "convolution": (["X"], [C, 5, 5]),
        "bias": ([], [C, 1, 1]),
        "channel": (["t"], [C, 1, 1]),
        "position": (["t"], [1, 5, 5]),
    }
    assert branch(outline_node(), "channel").shape == [C, 5, 5]  # the border of the zero padding
    assert branch(outline_node(padding="circular"), "channel").shape == [C, 1, 1]  # equation 4
    assert branch(outline_unet(), "channel").shape == [8, 1, 1]
    assert branch(outline_unet(position="mlp", position_init="zero"), "position").shape == [1, 8, 8]
    assert branch(outline_unet(position="mlp", position_mean=True), "position").shape == [1, 1, 1]


@pytest.mark.parametrize(
    ("fields", "groups", "unit", "over_batch"),
    [
        ({}, 4, [2, 5, 5], False),
        ({"groups": 1}, 1, [8, 5, 5], False),
        ({"norm": "layer"}, 1, [8, 5, 5], False),
        ({"norm": "instance"}, 8, [1, 5, 5], False),
        ({"norm": "batch"}, 8, [1, 5, 5], True),
    ],
)
def test_which_values_a_norm_takes_together_is_measured(fields: dict, groups: int, unit: list, over_batch: bool):
    norm = outline_node(**fields).norm
    assert (norm.groups, norm.unit, norm.over_batch) == (groups, unit, over_batch)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_equation_5_one_offset_a_channel_is_cancelled_and_a_map_is_not(norm: str):
    outline = outline_node(norm=norm, time="mlp", position="linear")
    assert max(branch(outline, "channel").change.built) < EXACT
    assert min(branch(outline, "position").change.built) > 0.05
    assert max(outline_node(norm=norm, time="mlp").change.built) < EXACT
    assert max(outline_node(norm=norm, padding="circular").change.built) < EXACT
    assert min(outline_node(norm=norm).change.built) > 0.01  # the border
    assert min(outline_node(time="mlp").change.built) > 0.05  # groups of two channels
    assert max(outline_node(time="mlp").change.by_channel) < EXACT


def test_a_node_without_time_has_no_branch_of_it_and_does_not_change():
    outline = outline_node(time="none")
    assert [one.kind for one in outline.branches] == ["convolution", "bias"]
    assert outline.change.built == [0.0]


def test_changes_are_those_of_time_awareness():
    network = classifier(position="linear")
    torch.manual_seed(1)
    change = outline_site([find_node_site(network)]).change.built
    torch.manual_seed(1)
    h = torch.randn(2, C, 5, 5, dtype=torch.float64)
    assert change == pytest.approx([measure_time_awareness(network.field, h).site_change[0][-1]])


def test_changes_are_those_of_level_awareness():
    """Of which a block's features are those of an image, so here the site's take them."""
    network = unet(position="mlp").double()
    images, kept = torch.randn(2, 1, 8, 8, dtype=torch.float64), []
    block = network.list_blocks()[0]
    hook = block.conv1.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    expected = measure_level_awareness(network, images, 500).block_change[0][-1]
    hook.remove()
    site = replace(find_unet_site(network), x=kept[-1])
    assert outline_site([site]).change.built == pytest.approx([expected])


# ---- FLOPs -----------------------------------------------------------------------------------------------------------


def parts_of(network: NodeClassifier) -> dict[str, tuple[int, int]]:
    return {part.name: (part.flops_image, part.flops_call) for part in measure_node(network, 1, SIZE)}


def test_flops_of_an_ode_function_are_those_of_two_convolutions_and_its_mlps():
    convolutions = 2 * (2 * 9 * C * C * ode_size(SIZE) ** 2)
    assert parts_of(classifier())["field"] == (convolutions, 0)
    assert parts_of(classifier(time="mlp"))["field"] == (convolutions, 2 * (2 * C + 2 * C * C))
    assert parts_of(classifier())["head"] == (2 * C * 10, 0)
    assert "field" not in parts_of(classifier(block="none"))


@pytest.mark.parametrize("fields", [{}, {"position": "mlp"}], ids=str)
def test_flops_of_a_unet_are_those_of_a_forward_pass(fields: dict[str, Any]):
    network = unet(**fields)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.randn(3, 1, 8, 8), torch.arange(3.0))
    (part,) = measure_unet(network, 1, 8)
    assert 3 * part.flops_image + part.flops_call == counter.get_total_flops()
    assert part.flops_call == 0
    assert part.params == count(network)


# ---- The file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["digits", "cifar10"])
def test_every_remedy_is_an_arm_as_params_yaml_writes_it(project: Project, case: str):
    for study, remedies in {"node": NODE_REMEDIES, "ddpm": DDPM_REMEDIES}.items():
        for changes in remedies.values():
            arm, network = vary(project.baseline(study, case).network, changes)
            assert project.resolve(study, case, arm, 0).network == network


def check_designs(designs: list[Design]) -> None:
    assert [design.remedy for design in designs] == ["none", "position", "zero_bias", "groups"]
    assert [design.outline.norm.groups == 1 for design in designs] == [False, False, False, True]
    kinds = [[part.kind for part in design.outline.branches] for design in designs]
    assert ["position" in kind for kind in kinds] == [False, True, False, False]
    assert {len(design.outline.change.built) for design in designs} == {len(SEEDS)}


def with_arms(project: Project, study: str, *arms: str) -> Project:
    """The same, with other arms of a study on the digits."""
    grid = project.panel.grid(study, "digits").model_copy(update={"arms": list(arms), "more": More(seeds=[], arms=[])})
    grids = {**project.panel.grids, study: {**project.panel.grids[study], "digits": grid}}
    return replace(project, panel=project.panel.model_copy(update={"grids": grids}))


def test_a_study_on_a_case_has_its_arms_and_the_remedies(tmp_path, project: Project):
    arms = ["baseline", "block=none", "channels=32"]
    node = MEASURES["node"](with_arms(project, "node", *arms), "digits")
    assert [built.arm for built in node.arms] == arms
    assert [sum(part.params for part in built.parts) for built in node.arms] == [
        count(NodeClassifier(node_network(arm=arm), 1, 12, 10)) for arm in arms
    ]
    check_designs(node.designs)
    ddpm = MEASURES["ddpm"](with_arms(project, "ddpm", "baseline"), "digits")
    check_designs(ddpm.designs)
    architecture = Architecture(networks=[node, ddpm])
    write_document(tmp_path / "records" / "architecture.json", architecture)
    assert read_document(tmp_path / "records" / "architecture.json", Architecture) == architecture


def test_a_baseline_without_an_ode_function_has_no_designs(project: Project):
    spec = project.specs["node"]
    base = {**spec.base, "network": {**spec.base["network"], "block": "none"}}
    without = replace(project, specs={**project.specs, "node": spec.model_copy(update={"base": base})}, _arms={})
    networks = MEASURES["node"](with_arms(without, "node", "baseline"), "digits")
    assert networks.designs == []
    assert [part.name for part in networks.arms[0].parts] == ["stem", "head"]
