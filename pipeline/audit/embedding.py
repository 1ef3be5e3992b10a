"""How well a network tells times apart: the first embedding of the time, and what reaches the sites."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.audit.findings import EmbeddingFacts, Form
from pipeline.audit.operations import JOINTS, is_linear, is_plain
from pipeline.audit.route import Graph
from pipeline.audit.tape import Operation, Taint

_SATURATED = 0.999
Series = Sequence[Mapping[int, Tensor]]
"""At each time, values by id."""


def _list_time_operations(graph: Graph) -> list[Operation]:
    taint = graph.tape.taint
    return [one for one in graph.tape.operations if any(taint(id) is Taint.TIME for id in one.outputs)]


def _has_features(graph: Graph, id: int) -> bool:
    value, time = graph.tape.values[id], graph.tape.values[graph.tape.time]
    return value.floating and bool(value.shape) and value.shape[-1] > 1 and value.shape != time.shape


def _join_parts(graph: Graph, id: int) -> int:
    """Where sines and cosines are joined, the joined ones."""
    for one in graph.consumers.get(id, []):
        if one.name in JOINTS and graph.tape.taint(one.outputs[0]) is Taint.TIME:
            return _join_parts(graph, one.outputs[0])
    return id


def find_embedding(graph: Graph) -> int:
    """The first value of the time alone that has features and is no multiple of the time; else the time itself."""
    affine = {graph.tape.time}
    constants = {id for id in graph.held if graph.tape.taint(id) is Taint.NONE}
    for operation in _list_time_operations(graph):
        moving = [id for id in operation.inputs if graph.tape.taint(id) is Taint.TIME]
        if all(id in affine for id in moving) and is_linear(operation, affine, constants):
            affine |= set(operation.outputs)
            continue
        for id in operation.outputs:
            if _has_features(graph, id):
                return _join_parts(graph, id)
    return graph.tape.time


def is_sinusoid(graph: Graph, id: int) -> bool:
    """Whether an embedding is made of sines and cosines, scaled and joined."""
    maker = graph.makers.get(id)
    if maker is None or maker.name in ("sin", "cos"):
        return maker is not None
    told = [one for one in maker.inputs if graph.tape.taint(one) is Taint.TIME]
    return (is_plain(maker) or maker.name in JOINTS | {"mul", "div"}) and any(is_sinusoid(graph, one) for one in told)


def list_squashed(graph: Graph) -> dict[int, float]:
    """Outputs of tanh and sigmoid that depend on the time alone, and what they are above unless saturated."""
    least = {"tanh": -_SATURATED, "sigmoid": 1 - _SATURATED}
    return {one.outputs[0]: least[one.name] for one in _list_time_operations(graph) if one.name in least}


@dataclass(frozen=True)
class Resolved:
    """How well features [times, features] tell times apart."""

    rank: float | None
    least_change: float | None
    distinct: int
    width: int


def take_image(value: Tensor, batch: int) -> Tensor:
    """The first image's features, [features] in float64."""
    one = value[:1] if value.ndim and len(value) == batch else value
    return one.double().flatten()


def measure_rank(features: Tensor) -> float | None:
    """Effective rank of features [times, features]: the participation ratio of their covariance over the times.

    (sum of eigenvalues)^2 / (sum of their squares), Gao et al. 2017, "A theory of multineuronal dimensionality,
    dynamics and measurement". None: they do not change.
    """
    centred = features - features.mean(0)
    energies = torch.linalg.svdvals(centred).square()
    ratio = float(energies.sum().square() / energies.square().sum())
    return ratio if math.isfinite(ratio) else None


def resolve(features: Tensor) -> Resolved:
    """Rank, least change and number of distinct rows of features [times, features]."""
    changes = (features[1:] - features[:-1]).norm(dim=1) / features[:-1].norm(dim=1)
    known = changes[changes.isfinite()]
    least = float(known.min()) if len(known) else None
    return Resolved(measure_rank(features), least, len(torch.unique(features, dim=0)), features.shape[1])


def stack_features(series: Series, ids: Sequence[int], batch: int) -> Tensor:
    """[times, features] of some values."""
    return torch.stack([torch.cat([take_image(values[id], batch) for id in ids]) for values in series])


def measure_saturation(series: Series, squashed: Mapping[int, float]) -> float | None:
    """The share of outputs of tanh and sigmoid that are beyond 0.999, over all times; None: there are none."""
    beyond = [
        ((values[id] > _SATURATED) | (values[id] < least)).flatten()
        for values in series
        for id, least in squashed.items()
    ]
    return float(torch.cat(beyond).double().mean()) if beyond else None


def measure_embedding(
    series: Series, graph: Graph, first: int, told: Sequence[int], batch: int, forms: list[Form]
) -> EmbeddingFacts:
    """Measure how well the times are resolved.

    Args:
        series: values at each time, in ascending order of the times.
        first: id of the first embedding in the graph.
        told: ids of what reaches the sites.
        batch: number of images; all are told the same time.
        forms: other types of the time.
    """
    embedded = resolve(stack_features(series, [first], batch))
    reached = resolve(stack_features(series, told, batch)) if told else None
    return EmbeddingFacts(
        times=len(series),
        sinusoid=is_sinusoid(graph, first),
        width=embedded.width,
        rank=embedded.rank,
        least_change=embedded.least_change,
        distinct=embedded.distinct,
        site_rank=None if reached is None else reached.rank,
        site_distinct=0 if reached is None else reached.distinct,
        saturated=measure_saturation(series, list_squashed(graph)),
        forms=forms,
    )


def count_distinct(embed: Callable[[float], Tensor], times: Sequence[float], batch: int) -> int:
    """How many embeddings some times have."""
    features = torch.stack([take_image(embed(t), batch) for t in times])
    return len(torch.unique(features, dim=0))
