"""What a linear network costs: the beginning of its training, measured, and as much more as the rest is long."""

from pipeline.metrics.bench import Bench, Cost
from pipeline.schema.project import Project
from pipeline.schema.study import Step
from pipeline.studies.linear.measure import measure_linear
from pipeline.studies.linear.study import LinearRecord, LinearRun

STEPS: tuple[Step, ...] = ("measure",)
"""The steps that are priced."""
NOTE = "linear: on the CPU; matrix products alone are FLOP, though its time goes to singular values too."
"""What the price takes for granted."""
_SHARE = 0.1
"""Of the training time."""
_KNOWN: dict[tuple[int, float, float, bool], Cost] = {}
"""By size, step, time and whether it solves: width, threshold and signal cost nothing."""


def price(project: Project, run: LinearRun, step: Step, bench: Bench, images: tuple[int, int]) -> Cost:
    """One network."""
    descent = run.descent
    key = (run.network.size, descent.step, descent.time, descent.flow)
    if key not in _KNOWN:
        short = run.model_copy(update={"descent": descent.model_copy(update={"time": _SHARE * descent.time})})
        records: list[LinearRecord] = []
        seconds = bench.on_cpu().time(lambda _: records.append(measure_linear(short)), 0)
        times = descent.iterations / short.descent.iterations
        _KNOWN[key] = Cost(_count_flops(short, records[0]) * times, seconds * times, False)
    return _KNOWN[key]


def _count_flops(run: LinearRun, record: LinearRecord) -> float:
    """Of the matrix products: two of [2d, 2d] a step of descent, one in its flow; four of [d, d] in the formula."""
    gram, formula = 2.0 * (2 * run.network.size) ** 3, 4 * 2.0 * run.network.size**3
    return (
        run.descent.iterations * (2 * gram + formula)
        + (record.nfe_flow or 0.0) * gram
        + (record.nfe_formula or 0.0) * formula
    )
