"""What the networks of a panel consist of and cost, and how their sites are built under each remedy."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pipeline.audit.outline import outline_site
from pipeline.audit.site import find_node_site, find_unet_site
from pipeline.layers.flops import count_flops
from pipeline.schema.architecture import Built, Design, Networks, Part, Remedy
from pipeline.schema.arm import BASELINE
from pipeline.schema.base import merge, validate
from pipeline.schema.project import Project
from pipeline.studies.ddpm.denoiser import build_denoiser
from pipeline.studies.ddpm.study import DdpmNetwork
from pipeline.studies.ddpm.unet import UNet
from pipeline.studies.node.network import NodeClassifier
from pipeline.studies.node.study import NodeNetwork

SEEDS = (0, 1, 2)
"""Of the initial weights, and of the features on which a site is measured."""
NODE_REMEDIES: dict[Remedy, dict[str, Any]] = {
    "none": {},
    "position": {"position": "linear"},
    "zero_bias": {"time": "mlp", "zero_bias": "conv"},  # Table 2: t v has no bias that could be other than zero
    "groups": {"groups": 1},
}
DDPM_REMEDIES: dict[Remedy, dict[str, Any]] = {
    "none": {},
    "position": {"position": "mlp"},
    "zero_bias": {"zero_bias": "conv"},
    "groups": {"groups": 1},
}
NetworkT = TypeVar("NetworkT", NodeNetwork, DdpmNetwork)


def vary(baseline: NetworkT, changes: dict[str, Any]) -> tuple[str, NetworkT]:
    """A baseline with some fields changed, and how params.yaml would write that arm."""
    network = validate(type(baseline), merge(baseline.model_dump(), changes), "the schematic's network")
    different = [name for name in type(baseline).model_fields if getattr(network, name) != getattr(baseline, name)]
    return ",".join(f"{name}={getattr(network, name)}" for name in different) or BASELINE, network


def _measure(name: str, modules: Iterable[nn.Module], work: Callable[[int], object]) -> Part:
    """A part whose forward pass of so many images is `work`."""
    one = count_flops(lambda: work(1))
    image = count_flops(lambda: work(2)) - one
    params = sum(value.numel() for module in modules for value in module.parameters())
    return Part.model_validate({"name": name, "params": params, "flops_image": image, "flops_call": one - image})


@torch.no_grad()
def measure_node(network: NodeClassifier, channels: int, size: int) -> list[Part]:
    """Stem, one evaluation of the ODE function if there is one, head; on images [B, channels, size, size]."""

    def features(count: int) -> Tensor:
        return network.extract(torch.zeros(count, channels, size, size))

    h, field, t = features(2), network.field, torch.tensor(0.0)
    parts = [_measure("stem", [network.stem], features)]
    if field is not None:
        parts.append(_measure("field", [field], lambda count: field(t, h[:count])))
    return [*parts, _measure("head", [network.head], lambda count: network.head(h[:count]))]


@torch.no_grad()
def measure_unet(network: nn.Module, channels: int, size: int) -> list[Part]:
    """The whole of it, on images [B, channels, size, size] with a level each."""

    def work(count: int) -> Tensor:
        out: Tensor = network(torch.zeros(count, channels, size, size), torch.zeros(count))
        return out

    return [_measure("unet", [network], work)]


class _Case:
    """What a study's networks on a case are built for."""

    def __init__(self, project: Project, study: str, name: str) -> None:
        dataset = project.case(study, name).dataset
        assert dataset is not None, f"{study} trains on datasets"
        arms = project.panel.grid(study, name).seeds_by_arm()
        self.channels, self.classes = dataset.channels, dataset.classes
        self.baseline: Any = project.baseline(study, name)
        self.networks: dict[str, Any] = {arm: project.resolve(study, name, arm, seed=0).network for arm in arms}  # type: ignore[attr-defined]


def _has_our_function(network: NodeNetwork) -> bool:
    return network.block == "ode" and network.function is None


def measure_node_case(project: Project, case: str) -> Networks:
    """The networks of the NODE study on a case, and its designs; none where the baseline has no ODE function."""
    of = _Case(project, "node", case)
    size = of.baseline.training.image_size

    def build(network: NodeNetwork, seed: int = SEEDS[0]) -> NodeClassifier:
        torch.manual_seed(seed)
        return NodeClassifier(network, of.channels, size, of.classes)

    def measure(network: NodeNetwork) -> list[Part]:
        return measure_node(build(network), of.channels, size)

    built = [Built(arm=arm, parts=measure(network)) for arm, network in of.networks.items()]
    designs = []
    for remedy, changes in NODE_REMEDIES.items() if _has_our_function(of.baseline.network) else ():
        arm, network = vary(of.baseline.network, changes)
        outline = outline_site(find_node_site(build(network, seed)) for seed in SEEDS)
        designs.append(Design(arm=arm, parts=measure(network), remedy=remedy, outline=outline))
    return Networks(study="node", case=case, arms=built, designs=designs)


def measure_ddpm_case(project: Project, case: str) -> Networks:
    """The networks of the DDPM study on a case, and its designs."""
    of = _Case(project, "ddpm", case)
    size, levels = of.baseline.training.image_size, of.baseline.diffusion.levels

    def build(network: DdpmNetwork, seed: int = SEEDS[0]) -> UNet:
        torch.manual_seed(seed)
        return UNet(network, of.channels, size, levels)

    def measure(network: DdpmNetwork) -> list[Part]:
        torch.manual_seed(SEEDS[0])
        return measure_unet(build_denoiser(network, of.channels, size, levels), of.channels, size)

    built = [Built(arm=arm, parts=measure(network)) for arm, network in of.networks.items()]
    designs = []
    for remedy, changes in DDPM_REMEDIES.items() if of.baseline.network.denoiser is None else ():
        arm, network = vary(of.baseline.network, changes)
        outline = outline_site(find_unet_site(build(network, seed)) for seed in SEEDS)
        designs.append(Design(arm=arm, parts=measure(network), remedy=remedy, outline=outline))
    return Networks(study="ddpm", case=case, arms=built, designs=designs)


MEASURES: dict[str, Callable[[Project, str], Networks]] = {"node": measure_node_case, "ddpm": measure_ddpm_case}
"""By study: (project, case) -> its networks. A study that is not here has none to show."""
