"""What a time test costs: two short ones, measured, and the line through them."""

from pipeline.metrics.bench import Bench, Cost, CostLine
from pipeline.schema.project import Project
from pipeline.schema.study import Step
from pipeline.studies.timetest.field import run_field_test
from pipeline.studies.timetest.study import FieldRun, NoiseRun
from pipeline.studies.timetest.white_noise import run_noise_test

STEPS: tuple[Step, ...] = ("measure",)
"""The steps that are priced."""
NOTE = "timetest: on the CPU; one arm of each case and width was measured for all."
"""What the price takes for granted."""
_SHORT = (20, 40)
"""Optimiser steps of the two."""
_KNOWN: dict[tuple[str, int, int, int], CostLine] = {}
"""By case, channels, image size and batch size; what else an arm changes is cheap."""


def price(project: Project, run: FieldRun | NoiseRun, step: Step, bench: Bench, images: tuple[int, int]) -> Cost:
    """One test: its training and its score.

    Raises:
        MeasureError: a solve gave up after the short training already.
    """
    training = run.training
    key = (run.case, run.network.channels, run.task.image_size, training.batch_size)

    def work(steps: int) -> object:
        short = run.model_copy(update={"training": training.model_copy(update={"steps": steps})})
        return run_noise_test(short) if isinstance(short, NoiseRun) else run_field_test(short)

    if key not in _KNOWN:
        _KNOWN[key] = bench.on_cpu().draw_line(work, _SHORT)
    return _KNOWN[key].at(training.steps)
