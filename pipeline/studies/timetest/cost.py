"""What a time test costs: two short ones, measured, and the line through them."""

from pipeline.layers.flops import count_flops
from pipeline.metrics.bench import Bench, Cost
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
_KNOWN: dict[tuple[str, int, int, int], tuple[Cost, Cost]] = {}
"""By case, channels, image size and batch size; what else an arm changes is cheap."""


def price(project: Project, run: FieldRun | NoiseRun, step: Step, bench: Bench, images: tuple[int, int]) -> Cost:
    """One test: its training and its score.

    Raises:
        MeasureError: a solve gave up after the short training already.
    """
    training = run.training
    key = (run.case, run.network.channels, run.task.image_size, training.batch_size)
    if key not in _KNOWN:
        cpu = Bench(bench.compute, "cpu", bench.seconds)
        first, second = (_measure(run, steps, cpu) for steps in _SHORT)
        _KNOWN[key] = first, second
    first, second = _KNOWN[key]
    times = (training.steps - _SHORT[0]) / (_SHORT[1] - _SHORT[0])
    slower = max(second.seconds - first.seconds, 0.0)
    return first + Cost((second.flops - first.flops) * times, slower * times, False)


def _measure(run: FieldRun | NoiseRun, steps: int, bench: Bench) -> Cost:
    short = run.model_copy(update={"training": run.training.model_copy(update={"steps": steps})})

    def work(_: int) -> object:
        return run_noise_test(short) if isinstance(short, NoiseRun) else run_field_test(short)

    return Cost(count_flops(lambda: work(0)), bench.time(work, 0), False)
