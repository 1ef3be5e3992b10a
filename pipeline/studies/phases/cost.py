"""What a run of the study `phases` costs: two short ones, measured, and the line through them."""

from typing import Any

from pipeline.metrics.bench import Bench, Cost, CostLine
from pipeline.schema.project import Project
from pipeline.schema.study import Step
from pipeline.studies.phases.measure import measure_phases
from pipeline.studies.phases.study import TurnRun

STEPS: tuple[Step, ...] = ("measure",)
"""The steps that are priced."""
NOTE = "phases: on the CPU; densities and clocks of one size cost the same, so one of them was measured for all."
"""What the price takes for granted."""
_SHORT = (10, 30)
"""Steps of the two: of training, or of a U-turn's way back."""
_FREE = {"density", "clock", "steps", "steps_back", "learning_rate", "depth", "k", "weight", "heavy", "spread"}
"""Fields that change no time, or that the line accounts for."""
_KNOWN: dict[str, CostLine] = {}
"""By case and all other fields."""


def price(project: Project, run: Any, step: Step, bench: Bench, images: tuple[int, int]) -> Cost:
    """One run.

    Raises:
        MeasureError: the loss is not finite after the short training already.
    """
    part, field = ("turn", "steps_back") if isinstance(run, TurnRun) else ("training", "steps")
    parts = run.model_dump(exclude={"study", "arm", "seed"})
    case = parts.pop("case")
    kept = {name: value for values in parts.values() for name, value in values.items() if name not in _FREE}
    key = f"{case} {kept}"
    if key not in _KNOWN:

        def work(size: int) -> object:
            return measure_phases(run.model_copy(update={part: getattr(run, part).model_copy(update={field: size})}))

        _KNOWN[key] = bench.on_cpu().draw_line(work, _SHORT)
    return _KNOWN[key].at(getattr(getattr(run, part), field))
