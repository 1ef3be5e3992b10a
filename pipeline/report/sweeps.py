"""The arms that vary one field of a study, for figures and claims."""

from dataclasses import dataclass

from pipeline.report.panel import Panel
from pipeline.schema.arm import Arm, list_fields
from pipeline.schema.study import Run, find_study


@dataclass(frozen=True)
class Point:
    """An arm of a sweep."""

    arm: Arm
    x: float
    """The field that is varied, as it takes effect."""
    series: float | None
    """The series' field, likewise."""
    run: Run
    default: bool
    """Whether x is not set, but is what PyTorch's default comes to."""


def _read_field(run: Run, field: str) -> float | None:
    """A field's value, as it is set."""
    value: float | None = getattr(getattr(run, list_fields(type(run))[field].part), field)
    return value


def read_coordinate(run: Run, field: str) -> float | None:
    """A field's value as it takes effect; None where nothing is set, and the study does not say what that comes to."""
    effect = find_study(run.study).coordinates.get(field)
    return _read_field(run, field) if effect is None else effect(run)


def find_points(panel: Panel, x: str, series: str | None) -> list[Point]:
    """The arms that override no field but x and the series', the baseline among them; by series, then x.

    An arm in which one of them is neither set nor known has no place on an axis, and is left out.
    """
    points = []
    for arm in panel.arms:
        if arm.overrides.keys() <= {x, series}:
            run = panel.runs[arm]
            place, name = read_coordinate(run, x), read_coordinate(run, series) if series is not None else None
            if place is not None and (series is None or name is not None):
                points.append(Point(arm, place, name, run, default=_read_field(run, x) is None))
    return sorted(points, key=lambda point: (point.series or 0, point.x))


def name_number(value: float | None) -> str:
    """A coordinate as text."""
    return str(value) if value is None or isinstance(value, int) else f"{value:.4g}"
