"""What the paper's equations say about untrained networks, measured on the real modules in float64."""

from typing import Any

import torch

from pipeline.schema.theory import Cell, Theory
from pipeline.studies.node.network import OdeFunction
from pipeline.studies.node.study import NodeNetwork
from pipeline.studies.node.time_awareness import measure_time_awareness

SIZE, IMAGES, SEEDS = 8, 4, (0, 1, 2)  # 8x8: the paper's feature map


def list_cells(channels: int) -> list[Cell]:
    """Every design of the table, nothing measured yet.

    A t that enters as one offset per channel vanishes exactly when each channel is normalised by itself (equation 5).
    It is such an offset without a position and, for a concatenated channel, without a border of zeros.
    """
    groups, count = [], channels // 2
    while count >= 1:
        groups.append(count)
        count //= 2
    norms = [("batch", None), ("instance", None), *(("group", count) for count in groups), ("layer", None)]
    designs: list[dict[str, Any]] = [
        {"norm": norm, "groups": count, "time": time, "position": position, "padding": padding}
        for time in ("concat", "linear", "mlp")
        for norm, count in norms
        for position in ("none", "linear")
        for padding in ("zeros", "circular")
    ]
    return [Cell.model_validate({**design, "vanishes": _vanishes(design), "change": []}) for design in designs]


def _vanishes(design: dict[str, Any]) -> bool:
    offset = design["position"] == "none" and (design["time"] != "concat" or design["padding"] == "circular")
    return bool(offset and design["norm"] in ("batch", "instance"))


def _measure(network: NodeNetwork, seed: int) -> float:
    torch.manual_seed(seed)
    field = OdeFunction(network, SIZE).double()
    h = torch.randn(IMAGES, network.channels, SIZE, SIZE, dtype=torch.float64)
    change = measure_time_awareness(field, h).change[-1]
    assert change is not None  # a normalisation ends f
    return change


def measure_theory(base: NodeNetwork) -> Theory:
    """Relative change ||f(h, 1) - f(h, 0)|| / ||f(h, 0)|| of each design at initialisation, h standard normal."""
    cells = []
    for cell in list_cells(base.channels):
        fields = cell.model_dump(include={"norm", "time", "position", "padding"})
        network = base.model_copy(update={**fields, "groups": cell.groups or 1})
        cells.append(cell.model_copy(update={"change": [_measure(network, seed) for seed in SEEDS]}))
    return Theory(channels=base.channels, size=SIZE, images=IMAGES, cells=cells)
