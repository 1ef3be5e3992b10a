"""FLOPs of a run: those of its network's parts, counted on the live modules, times how often they ran.

A multiplication and an addition are two. A backward pass counts as two forward passes. The passes over the test split,
which a NODE training makes after each epoch, are left out.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.schema.architecture import Architecture, Part
from pipeline.schema.curve import CURVES, curve_path, read_curve
from pipeline.schema.project import Project
from pipeline.schema.record import Failure, Record
from pipeline.schema.study import Run, Step
from pipeline.studies.ddpm.study import DdpmRecord, DdpmRun
from pipeline.studies.node.study import NodeRun

_FORWARD_AND_BACKWARD = 3

Flops = Mapping[tuple[str, str, str, int, Step], float]
"""By study, dataset, arm, seed and step."""


def _forward(part: Part, images: int, batch_size: int) -> float:
    """Of one pass over so many images, batch by batch."""
    return part.flops_image * images + part.flops_call * -(-images // batch_size)


def count_node(
    run: NodeRun, parts: Sequence[Part], images: int, nfe: Sequence[float], nfe_backward: Sequence[float]
) -> float:
    """Of a NODE training.

    Args:
        images: of the training split.
        nfe: mean evaluations of the forward solve, epoch by epoch; none without an ODE block.
        nfe_backward: the same of the adjoint solve, each with its gradient; none with the direct gradient, which goes
            back through the evaluations of the forward solve.
    """
    found: Mapping[str, float] = {part.name: _forward(part, images, run.training.batch_size) for part in parts}
    outside = sum(flops for name, flops in found.items() if name != "field")
    solve = sum(nfe) * found.get("field", 0.0)
    adjoint = _FORWARD_AND_BACKWARD * sum(nfe_backward) * found.get("field", 0.0)
    back = adjoint if run.network.gradient == "adjoint" else (_FORWARD_AND_BACKWARD - 1) * solve
    return _FORWARD_AND_BACKWARD * run.training.epochs * outside + solve + back


def count_ddpm(run: DdpmRun, parts: Sequence[Part]) -> float:
    """Of a diffusion model's training."""
    batch = run.training.batch_size
    step = sum(_forward(part, batch, batch) for part in parts)
    return _FORWARD_AND_BACKWARD * run.training.steps * step


def count_sampling(parts: Sequence[Part], record: DdpmRecord, batch_size: int) -> float:
    """Of all sample sets of a diffusion model, those of its snapshots included."""
    sets = len(record.sets) + len(record.snapshots) - 1  # the last snapshot is the first of the sets
    passes = sets * record.protocol.sampling_steps
    return passes * sum(_forward(part, record.protocol.images, batch_size) for part in parts)


def _read_nfe(root: Path, dataset: str, name: str) -> dict[tuple[str, int], list[float]]:
    """NFE of each NODE run, epoch by epoch."""
    curve = next(one for one in CURVES["node"] if one.name == name)
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for point in read_curve(curve_path(root, "node", dataset, curve), curve):
        found[point.arm, point.seed].append(point.value)
    return found


def count_runs(
    root: Path, project: Project, architecture: Architecture, runs: Sequence[tuple[Run, Record | Failure | None]]
) -> Flops:
    """FLOPs of every completed run whose network is known; of imported weights, of the sampling alone."""
    parts = {(of.study, of.dataset, built.arm): built.parts for of in architecture.networks for built in of.arms}
    flops: dict[tuple[str, str, str, int, Step], float] = {}
    nodes = dict.fromkeys(run.dataset for run, _ in runs if run.study == "node")
    forward, backward = (
        {name: _read_nfe(root, name, curve) for name in nodes} for curve in ("nfe_train", "nfe_backward")
    )
    for run, record in runs:
        built = parts.get((run.study, run.dataset, run.arm))
        if built is None or record is None or isinstance(record, Failure):
            continue
        key, seed = (run.arm, run.seed), (run.study, run.dataset, run.arm, run.seed)
        if isinstance(run, NodeRun):
            images = project.data.datasets[run.dataset].train_images
            nfe, back = forward[run.dataset].get(key, ()), backward[run.dataset].get(key, ())
            flops[*seed, "train"] = count_node(run, built, images, nfe, back)
        elif isinstance(record, DdpmRecord):
            batch_size = project.ddpm.datasets[run.dataset].sampling.batch_size
            flops[*seed, "sample"] = count_sampling(built, record, batch_size)
            if record.training_steps:
                flops[*seed, "train"] = count_ddpm(run, built)
    return flops
