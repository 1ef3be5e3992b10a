"""What a run of the study `phases` costs: two short ones, measured, and the line through them."""

from typing import Any

from pipeline.layers.flops import count_flops
from pipeline.metrics.bench import Bench, Cost
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
_KNOWN: dict[str, tuple[Cost, Cost]] = {}
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
        cpu = Bench(bench.compute, "cpu", bench.seconds)
        first, second = (
            _measure(run.model_copy(update={part: getattr(run, part).model_copy(update={field: steps})}), cpu)
            for steps in _SHORT
        )
        _KNOWN[key] = first, second
    first, second = _KNOWN[key]
    times = (getattr(getattr(run, part), field) - _SHORT[0]) / (_SHORT[1] - _SHORT[0])
    slower = max(second.seconds - first.seconds, 0.0)
    return first + Cost((second.flops - first.flops) * times, slower * times, False)


def _measure(run: Any, bench: Bench) -> Cost:
    return Cost(count_flops(lambda: measure_phases(run)), bench.time(lambda _: measure_phases(run), 0), False)
