"""The arms that vary one field of a study, for figures and claims."""

from dataclasses import dataclass
from typing import Any

from pipeline.report.panel import Panel
from pipeline.schema.arm import BASELINE, Arm, list_fields, parse_arm
from pipeline.schema.study import Run, find_study

Value = bool | float | str
"""Of a field: a number, a word, true or false."""


@dataclass(frozen=True)
class Point:
    """An arm of a sweep."""

    arm: Arm
    x: float
    """The field that is varied, as it takes effect."""
    series: Value | None
    """The series' field, likewise."""
    run: Run
    default: bool
    """Whether x is not set, but is what PyTorch's default comes to."""


def _read_field(run: Run, field: str) -> Any:
    """A field's value, as it is set."""
    return getattr(getattr(run, list_fields(type(run))[field].part), field)


def read_coordinate(run: Run, field: str) -> Any:
    """A field's value as it takes effect; None where nothing is set, and the study does not say what that comes to."""
    effect = find_study(run.study).coordinates.get(field)
    return _read_field(run, field) if effect is None else effect(run)


def find_points(panel: Panel, x: str, series: str | None, fixed: str = BASELINE) -> list[Point]:
    """The arms that override what `fixed` does and beside it no field but x and the series'; by series, then x.

    An arm in which x or the series' field is neither set nor known has no place on an axis, and is left out.
    """
    alike, points = parse_arm(fixed, find_study(panel.study).run_on(panel.case)).overrides, []
    for arm in panel.arms:
        if not arm.overrides.keys() <= {x, series, *alike}:
            continue
        run = panel.runs[arm]
        # What `fixed` says may be the baseline's on this case, and then is in no arm's name: the run's values decide.
        if all(_read_field(run, field) == value for field, value in alike.items()):
            place, name = read_coordinate(run, x), read_coordinate(run, series) if series is not None else None
            if place is not None and (series is None or name is not None):
                points.append(Point(arm, place, name, run, default=_read_field(run, x) is None))
    return sorted(points, key=_order)


def _order(point: Point) -> tuple[bool, Value, float]:
    """Numbers come before words."""
    return isinstance(point.series, str), 0 if point.series is None else point.series, point.x


def name_value(value: Value | None) -> str:
    """A field's value as text, as an arm spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
