"""What a run of the study `full` costs: a training by the line through two short ones, the rest as it is."""

from pipeline.metrics.bench import Bench, Cost, CostLine
from pipeline.schema.project import Project
from pipeline.schema.study import Step
from pipeline.studies.full.learned import measure_learned
from pipeline.studies.full.measure import measure_full
from pipeline.studies.full.study import BoundRun, LearnedRun, RampRun, SolverRun

STEPS: tuple[Step, ...] = ("measure",)
"""The steps that are priced."""
NOTE = "full: on the CPU; one arm of each size was measured for all."
"""What the price takes for granted."""
_SHORT = (10, 60)
"""Optimiser steps of the two trainings."""
_LEARNED: dict[tuple[int, int, int], CostLine] = {}
"""By batch size, units and sampling steps."""
_OTHERS: dict[tuple[str, int], Cost] = {}
"""By case and size."""


def price(
    project: Project,
    run: SolverRun | BoundRun | RampRun | LearnedRun,
    step: Step,
    bench: Bench,
    images: tuple[int, int],
) -> Cost:
    """One solver, bound, known loss or training.

    Raises:
        MeasureError: the short training, or its samples, are not finite.
    """
    cpu = bench.on_cpu()
    if isinstance(run, LearnedRun):
        return _price_learned(run, cpu)
    key = (run.case, _find_size(run))
    if key not in _OTHERS:
        _OTHERS[key] = cpu.count(lambda _: measure_full(run), 0)
    return _OTHERS[key]


def _find_size(run: SolverRun | BoundRun | RampRun) -> int:
    if isinstance(run, SolverRun):
        return run.sampler.steps
    return run.estimate.size if isinstance(run, BoundRun) else run.ramp.batch * run.ramp.repeats


def _price_learned(run: LearnedRun, bench: Bench) -> Cost:
    learning, key = run.learning, (run.learning.batch_size, run.learning.hidden, run.sampler.steps)

    def work(updates: int) -> object:
        return measure_learned(run.model_copy(update={"learning": learning.model_copy(update={"updates": updates})}))

    if key not in _LEARNED:
        _LEARNED[key] = bench.draw_line(work, _SHORT)
    return _LEARNED[key].at(learning.updates)
