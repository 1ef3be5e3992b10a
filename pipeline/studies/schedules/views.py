"""The section `schedules` of the page: what is lost by the ratio of steps to the root of the dimension, and how."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.report.charts import draw_lines, make_drawings
from pipeline.report.panel import Panel
from pipeline.report.views import Chart, Drawing, Section, Views
from pipeline.schema.curve import Point
from pipeline.schema.project import Project
from pipeline.studies.schedules.study import CURIE_WEISS, MixtureRun, SchedulesRecord

_TEXT = """
VP with fewer steps than √d puts all samples into the heavy mode, because its first step is long past the times of order
1/√d at which a sample takes a side; the shape of the modes is right (claim s2). VE keeps the weights and shrinks the
modes, because its last steps jump over the noise levels of order 1 at which the shape is made (s3). A dilated schedule,
which gives half of the steps to each of the two phases, keeps both with a number of steps that no dimension raises (s4,
s6; spins: s9, s10).

It does not show that a trained network would do as well: the exact posterior mean stands in its place, of two data
distributions, under Euler's method alone. With the trigonometric path, σ = √(1 − α²), dilation does not save VE: the
spread is far too large with any number of steps tried (s8).

It follows [Aranguri, Biroli, Mézard and Vanden-Eijnden 2025](https://arxiv.org/abs/2501.00988); the numbers are ours,
by the exact reduction of the mixture to two coordinates, in a million dimensions.
"""
_PHASES = ("vp", "vp_dilated")
"""Schedules whose trajectories are drawn."""


def _list_ratios(panel: Panel, schedule: str, key: str) -> Iterator[Point]:
    """A key of all runs of an undilated schedule on the linear path, over K / sqrt(d); a series a dimension."""
    for arm in panel.arms:
        run = panel.runs[arm]
        assert isinstance(run, MixtureRun)
        if run.path.schedule != schedule or set(arm.overrides) - {"schedule", "dimension", "steps"}:
            continue
        ratio = run.sampler.steps / run.dimension**0.5
        for seed, value in panel.values(arm, key).items() if ratio > 0 else ():
            yield Point(f"d = {run.dimension:,}", seed, ratio, value)


def _draw_collapse(panel: Panel, schedule: str, key: str, label: str) -> Sequence[Drawing]:
    points = sorted(_list_ratios(panel, schedule, key), key=lambda point: (point.arm, point.at))
    chart = draw_lines(points, "steps over the root of the dimension, K / √d", label)
    if chart is not None:
        chart["encoding"]["x"]["scale"] = {"type": "log", "padding": 14}
    return make_drawings(f"schedules-{schedule}", f"{label}: {schedule.upper()}", chart)


def _draw_trajectories(panel: Panel, arm: str, schedule: str) -> Sequence[Drawing]:
    """The mean over coordinates of a few samples."""
    points = [
        Point(schedule, sample, u, value)
        for record in list(panel.completed(arm).values())[:1]
        if isinstance(record, SchedulesRecord)
        for u, means in zip(record.times, record.means, strict=True)
        for sample, value in enumerate(means)
    ]
    chart: Chart | None = draw_lines(points, "time u, from noise to data", "mean of the coordinates")
    if chart is not None:
        chart["mark"] = {"type": "line", "opacity": 0.6}
    return make_drawings(f"schedules-means-{schedule}", f"Means of twelve samples: {arm}", chart)


def _show_schedules(_root: Path, _: Project, panels: Sequence[Panel]) -> Section:
    drawings: list[Any] = []
    for panel in (panel for panel in panels if panel.case != CURIE_WEISS):
        drawings += _draw_collapse(panel, "vp", "weight", "Weight of the heavy mode")
        drawings += _draw_collapse(panel, "ve", "spread", "Standard deviation of a mode")
        for schedule in _PHASES:
            drawings += _draw_trajectories(panel, _name_arm(schedule), schedule)
    return Section("schedules", "Noise schedules in high dimension", text=_TEXT, drawings=drawings)


def _name_arm(schedule: str) -> str:
    return "steps=100" if schedule == "vp" else f"schedule={schedule},steps=100"


VIEWS = Views(sections={"schedules": _show_schedules})
