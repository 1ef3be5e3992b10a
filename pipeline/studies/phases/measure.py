"""One run of the study `phases`, of whichever case."""

from pipeline.studies.phases.budget import measure_budget
from pipeline.studies.phases.digits import measure_digits
from pipeline.studies.phases.overlaps import measure_overlaps
from pipeline.studies.phases.study import BudgetRun, DigitsRun, OverlapRun, PhasesRecord, TurnRun
from pipeline.studies.phases.uturn import measure_turn


def measure_phases(run: BudgetRun | DigitsRun | OverlapRun | TurnRun) -> PhasesRecord:
    """The record of a run."""
    if isinstance(run, OverlapRun):
        return measure_overlaps(run)
    if isinstance(run, TurnRun):
        return measure_turn(run)
    return measure_digits(run) if isinstance(run, DigitsRun) else measure_budget(run)
