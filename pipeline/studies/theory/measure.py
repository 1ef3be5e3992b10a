"""Checks the paper's Equation 5 on untrained ODE functions: the real modules, in float64."""

from typing import Any

import torch

from pipeline.studies.node.derived import loses_time
from pipeline.studies.node.network import OdeFunction
from pipeline.studies.node.study import NodeNetwork
from pipeline.studies.node.time_awareness import measure_change
from pipeline.studies.theory.study import Cell, Features, TheoryRecord, TheoryRun


def list_designs(channels: int) -> list[dict[str, Any]]:
    """All designs of the table."""
    groups, count = [], channels // 2
    while count >= 1:
        groups.append(count)
        count //= 2
    norms = [("batch", None), ("instance", None), *(("group", count) for count in groups), ("layer", None)]
    return [
        {"norm": norm, "groups": count, "time": time, "position": position, "padding": padding}
        for time in ("concat", "linear", "mlp")
        for norm, count in norms
        for position in ("none", "linear")
        for padding in ("zeros", "circular")
    ]


def _measure(network: NodeNetwork, features: Features, seed: int) -> float:
    torch.manual_seed(seed)
    field = OdeFunction(network, features.size).double()
    h = torch.randn(features.images, network.channels, features.size, features.size, dtype=torch.float64)
    (change,) = measure_change(field, h, [1.0])
    assert change is not None  # f ends with a norm, so its size is not zero
    return change


def measure_theory(run: TheoryRun) -> TheoryRecord:
    """Relative change ||f(h, 1) - f(h, 0)|| / ||f(h, 0)|| of each design at initialisation, h standard normal."""
    features, cells = run.design, []
    for design in list_designs(features.channels):
        fields = {key: design[key] for key in ("norm", "time", "position", "padding")}
        # All other fields have the schema's defaults: the paper's baseline.
        network = NodeNetwork(**fields, channels=features.channels, groups=design["groups"] or 1)
        cells.append(Cell(**design, vanishes=loses_time(network), change=_measure(network, features, run.seed)))
    return TheoryRecord(
        lost=max(cell.change for cell in cells if cell.vanishes),
        kept=min(cell.change for cell in cells if not cell.vanishes),
        cells=cells,
    )
