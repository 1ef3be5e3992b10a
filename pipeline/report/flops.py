"""FLOPs of runs: those of a network's parts, counted on the modules as built, times how often they ran.

A multiplication and an addition are two. A backward pass counts as two forward passes. How often a part runs is for
its study to say.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from pipeline.report.views import find_views
from pipeline.schema.architecture import Architecture, Part
from pipeline.schema.curve import curve_path, read_curve
from pipeline.schema.project import Project
from pipeline.schema.record import Failure, Record
from pipeline.schema.study import Run, Step, find_study

FORWARD_AND_BACKWARD = 3
"""Forward passes to which a forward and a backward pass come."""
Flops = Mapping[tuple[str, str, str, int, Step], float]
"""By study, case, arm, seed and step."""


def forward_flops(part: Part, images: int, batch_size: int) -> float:
    """Of one pass over so many images, batch by batch."""
    return part.flops_image * images + part.flops_call * -(-images // batch_size)


def count_runs(
    root: Path, project: Project, architecture: Architecture, runs: Sequence[tuple[Run, Record | Failure | None]]
) -> Flops:
    """FLOPs of every completed run whose network is known."""
    parts = {(of.study, of.case, built.arm): built.parts for of in architecture.networks for built in of.arms}

    @cache
    def read(study: str, case: str, name: str) -> Mapping[tuple[str, int], Sequence[float]]:
        curve = next(one for one in find_study(study).curves if one.name == name)
        found: dict[tuple[str, int], list[float]] = defaultdict(list)
        for point in read_curve(curve_path(root, study, case, curve), curve):
            found[point.arm, point.seed].append(point.value)
        return found

    flops: dict[tuple[str, str, str, int, Step], float] = {}
    for run, record in runs:
        built = parts.get((run.study, run.case, run.arm))
        if built is None or record is None or isinstance(record, Failure):
            continue

        def read_own(name: str, of: Run = run) -> Sequence[float]:
            return read(of.study, of.case, name).get((of.arm, of.seed), ())

        counted = find_views(run.study).count_flops(project, run, record, built, read_own)
        flops |= {(run.study, run.case, run.arm, run.seed, step): value for step, value in counted.items()}
    return flops
