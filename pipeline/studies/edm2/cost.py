"""What a run of the study `edm2` costs: a training by the line through two short ones, the rest as it is."""

from pipeline.metrics.bench import Bench, Cost, CostLine
from pipeline.schema.project import Project
from pipeline.schema.study import Step
from pipeline.studies.edm2.ladder import measure_ladder
from pipeline.studies.edm2.measure import measure_edm2
from pipeline.studies.edm2.study import BlockRun, LadderRun, PostHocRun

STEPS: tuple[Step, ...] = ("measure",)
"""The steps that are priced."""
NOTE = "edm2: on the CPU; one config of each width was measured for all."
"""What the price takes for granted."""
_SHORT = (20, 40)
"""Optimiser steps of the two trainings."""
_SHARE = 8
"""A part of the steps of a trajectory."""
_LADDERS: dict[tuple[int, int, int], CostLine] = {}
"""By channels, levels and batch size."""
_OTHERS: dict[tuple[str, int, int], Cost] = {}
"""By case and size."""


def price(
    project: Project, run: PostHocRun | BlockRun | LadderRun, step: Step, bench: Bench, images: tuple[int, int]
) -> Cost:
    """One trajectory, block or training."""
    cpu = bench.on_cpu()
    if isinstance(run, LadderRun):
        return _price_ladder(run, cpu)
    if isinstance(run, PostHocRun):
        return _price_trajectory(run, cpu)
    key = (run.case, run.block.width, run.block.pixels)
    if key not in _OTHERS:
        _OTHERS[key] = cpu.count(lambda _: measure_edm2(run), 0)
    return _OTHERS[key]


def _price_ladder(run: LadderRun, bench: Bench) -> Cost:
    training, key = run.training, (run.network.channels, run.network.levels, run.training.batch_size)

    def work(steps: int) -> object:
        return measure_ladder(run.model_copy(update={"training": training.model_copy(update={"steps": steps})}))

    if key not in _LADDERS:
        _LADDERS[key] = bench.draw_line(work, _SHORT)
    return _LADDERS[key].at(training.steps)


def _price_trajectory(run: PostHocRun, bench: Bench) -> Cost:
    averages, key = run.averages, (run.case, run.averages.averaged_steps, run.averages.values)
    if key not in _OTHERS:
        shorter = averages.model_copy(update={"averaged_steps": averages.averaged_steps // _SHARE})
        short = run.model_copy(update={"averages": shorter})
        _OTHERS[key] = bench.count(lambda _: measure_edm2(short), 0).repeat(_SHARE, _SHARE)
    return _OTHERS[key]
