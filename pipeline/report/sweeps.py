"""The arms that vary one field of the NODE network, for figures and claims."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.schema.arm import parse_arm
from pipeline.schema.figure import SeriesField, SweepField
from pipeline.schema.project import Project
from pipeline.studies.node.study import NodeNetwork, resolve_node_run


@dataclass(frozen=True)
class Point:
    """An arm of a sweep."""

    arm: str
    x: float
    """The field that is varied, as it takes effect."""
    series: int | None
    network: NodeNetwork
    default: bool
    """Whether x is not set, but is what PyTorch's default comes to."""


def default_std(network: NodeNetwork) -> float:
    """Standard deviation of a site's initial weights by PyTorch's default, uniform within 1 / sqrt(fan-in)."""
    inputs = network.width + network.time.startswith("concat")
    return 1 / math.sqrt(3 * 9 * inputs)


def _coordinate(network: NodeNetwork, field: SweepField) -> float:
    if field == "weight_std":
        return default_std(network) if network.weight_std is None else network.weight_std
    return min(network.groups, network.channels)


def find_points(
    project: Project, dataset: str, arms: Sequence[str], x: SweepField, series: SeriesField | None
) -> list[Point]:
    """The arms that override no field but x and the series', the baseline among them; by series, then x."""
    points = []
    for arm in arms:
        if parse_arm(arm, NodeNetwork).keys() <= {x, series}:
            network = resolve_node_run(project.node, dataset, arm, 0).network
            value = getattr(network, series) if series is not None else None
            default = x == "weight_std" and network.weight_std is None
            points.append(Point(arm, _coordinate(network, x), value, network, default))
    return sorted(points, key=lambda point: (point.series or 0, point.x))
