"""Measures a run of the study `full`, by its case."""

from pipeline.studies.full.bounds import measure_bound
from pipeline.studies.full.learned import measure_learned
from pipeline.studies.full.ramp import measure_ramp
from pipeline.studies.full.solvers import measure_solver
from pipeline.studies.full.study import BoundRun, FullRecord, LearnedRun, RampRun, SolverRun


def measure_full(run: SolverRun | BoundRun | RampRun | LearnedRun) -> FullRecord:
    """The record of a run.

    Raises:
        MeasureError: a training, or its samples, are not finite.
    """
    if isinstance(run, BoundRun):
        return measure_bound(run)
    if isinstance(run, RampRun):
        return measure_ramp(run)
    return measure_learned(run) if isinstance(run, LearnedRun) else measure_solver(run)
