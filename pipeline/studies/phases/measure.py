"""One run of the study `phases`, of whichever case."""

from pipeline.studies.phases.budget import measure_budget
from pipeline.studies.phases.overlaps import measure_overlaps
from pipeline.studies.phases.study import BudgetRun, OverlapRun, PhasesRecord, TurnRun
from pipeline.studies.phases.uturn import measure_turn


def measure_phases(run: BudgetRun | OverlapRun | TurnRun) -> PhasesRecord:
    """The record of a run."""
    if isinstance(run, OverlapRun):
        return measure_overlaps(run)
    return measure_turn(run) if isinstance(run, TurnRun) else measure_budget(run)
