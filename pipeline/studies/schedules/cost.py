"""What a run of the study `schedules` costs: its first steps, measured, and as much more as there are more of them."""

from pipeline.metrics.bench import Bench, Cost
from pipeline.schema.project import Project
from pipeline.schema.study import Step
from pipeline.studies.schedules.measure import measure_schedule
from pipeline.studies.schedules.study import MixtureRun, SpinRun

STEPS: tuple[Step, ...] = ("measure",)
"""The steps that are priced."""
NOTE = "schedules: on the CPU, no matrix products; undilated, steps=0 is taken to grow as the root of d."
"""What the price takes for granted."""
_STEPS, _SPINS, _DIMENSION = 50, 10, 1600
"""Steps and, of spins, samples that are timed; and the dimension in which the fewest steps are looked for."""


def price(project: Project, run: MixtureRun | SpinRun, step: Step, bench: Bench, images: tuple[int, int]) -> Cost:
    """One schedule on one target.

    Raises:
        MeasureError: no number of steps is enough in a small dimension already.
    """
    short, times = _shorten(run)
    return Cost(0.0, bench.on_cpu().time(lambda _: measure_schedule(short), 0) * times, False)


def _shorten(run: MixtureRun | SpinRun) -> tuple[MixtureRun | SpinRun, float]:
    """A shorter run, and how often it would have to be done in the time of the whole."""
    if isinstance(run, MixtureRun) and run.sampler.steps == 0:
        dimension = min(run.dimension, _DIMENSION)
        growth = 1.0 if run.path.schedule.endswith("dilated") else (run.dimension / dimension) ** 0.5
        return run.model_copy(update={"target": run.target.model_copy(update={"dimension": dimension})}), growth
    steps, samples = min(run.sampler.steps, _STEPS), run.sampler.samples
    if isinstance(run, SpinRun):
        steps, samples = min(steps, 5), min(samples, _SPINS)
    sampler = run.sampler.model_copy(update={"steps": steps, "samples": samples})
    return run.model_copy(update={"sampler": sampler}), run.sampler.steps / steps * run.sampler.samples / samples
