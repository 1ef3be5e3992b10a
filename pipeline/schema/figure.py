"""Figures: a measured quantity of records, over a field that arms vary or arm by arm."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.schema.arm import BASELINE, ArmString
from pipeline.schema.base import SpecError, Strict, find_duplicate, read_yaml, validate
from pipeline.schema.study import find_study, numeric_keys
from pipeline.schema.table import Cases, Row


class Horizontal(Strict):
    """The horizontal axis of a sweep."""

    field: str = Field(description="field that arms vary, a number")
    label: str = Field(min_length=1, description="label, with the unit if there is one")
    base: Literal[2, 10] | None = Field(
        description="base of the logarithm; 2: a tick at each value; null: the axis is linear"
    )


class Quantity(Strict):
    """The axis of one measured quantity."""

    key: str = Field(description="key of the record")
    label: str = Field(min_length=1, description="label, with the unit if there is one")
    digits: int = Field(ge=0, le=6, description="decimals shown")
    scale: Literal["linear", "log"] = "linear"


class Line(Strict):
    """A dashed line at a value of the measured quantity."""

    value: float
    label: str = Field(min_length=1)


class FigureFile(Strict):
    """What every file specs/STUDY/figures/NAME.yaml has."""

    title: str = Field(min_length=1)
    caption: str
    cases: Cases = None
    line: Line | None = None

    @property
    @abstractmethod
    def quantity(self) -> Quantity:
        """The axis of the measured quantity."""

    @property
    @abstractmethod
    def arms(self) -> list[str]:
        """The arms that the file names."""

    @model_validator(mode="after")
    def _check_line(self) -> "FigureFile":
        if self.line is not None and self.quantity.scale == "log" and self.line.value <= 0:
            raise ValueError(f"line.value = {self.line.value:g}: it has no place on a logarithmic axis")
        return self


class SweepFile(FigureFile):
    """Of kind `sweep`: the arms of params.yaml that override what `fixed` does, and beside it at most x and series."""

    kind: Literal["sweep"] = "sweep"
    x: Horizontal
    y: Quantity = Field(description="mean and standard deviation over seeds")
    series: str | None = Field(description="field with one line per value; null: one line")
    names: dict[str, str] = Field(default={}, description="what a line is called, by the field's value; else the value")
    fixed: ArmString = Field(default=BASELINE, description="what all its arms override alike")

    @property
    def quantity(self) -> Quantity:
        """The vertical axis."""
        return self.y

    @property
    def arms(self) -> list[str]:
        """The one that all others go on from."""
        return [self.fixed]

    @model_validator(mode="after")
    def _check_fixed(self) -> "SweepFile":
        check_fixed(self.fixed, self.x.field, self.series)
        return self


class ArmRow(Row):
    """One row of a figure of kind `arms`."""

    group: str | None = Field(default=None, min_length=1, description="heading above this row")


class ArmsFile(FigureFile):
    """Of kind `arms`: listed arms, a row each, with mean and 95 % interval over seeds."""

    kind: Literal["arms"]
    rows: list[ArmRow] = Field(min_length=1)
    x: Quantity

    @property
    def quantity(self) -> Quantity:
        """The horizontal axis."""
        return self.x

    @property
    def arms(self) -> list[str]:
        """Those of its rows, in order."""
        return [row.arm for row in self.rows]


class Sweep(SweepFile):
    """A figure of kind `sweep`, and the study whose records it shows."""

    study: str


class Arms(ArmsFile):
    """A figure of kind `arms`, and the study whose records it shows."""

    study: str


Figure = Sweep | Arms


def check_fixed(fixed: str, x: str, series: str | None) -> None:
    """Refuse an arm that sets what varies in the sweep that starts from it."""
    for part in fixed.split(","):
        if (name := part.split("=")[0]) in (x, series):
            raise ValueError(f"fixed = {fixed!r}: {name!r} varies in the sweep")


def check_field(study: str, name: str | None, where: str, *, numeric: bool = True) -> None:
    """Refuse a name that is not a field of the study's arms.

    Args:
        name: the field; None is allowed.
        where: file and key, for the message.
        numeric: whether only numbers are allowed.
    """
    fields = find_study(study).list_fields()
    known = [key for key, field in fields.items() if not numeric or is_number(field.info.annotation)]
    if name is not None and name not in known:
        raise SpecError(f"{where}: unknown field {name!r}; allowed: {', '.join(known)}")


def is_number(annotation: object) -> bool:
    """Whether a field's type is a number, or a number or null."""
    return annotation in (int, float, float | None, int | None)


def _validate(study: str, data: Any, file: str) -> Figure:
    """A figure of the kind that the file says; chosen here, so that messages name keys without the kind."""
    kind = data.get("kind", "sweep") if isinstance(data, Mapping) else "sweep"
    if kind == "sweep":
        return Sweep(study=study, **dict(validate(SweepFile, data, file)))
    if kind == "arms":
        return Arms(study=study, **dict(validate(ArmsFile, data, file)))
    raise SpecError(f"{file}: kind = {kind!r}: unknown kind; allowed: sweep, arms")


def load_figures(root: Path, study: str) -> dict[str, Figure]:
    """Read and validate the figures of a study, by name."""
    figures, known = dict[str, Figure](), numeric_keys(find_study(study).record)
    for path in sorted((root / "specs" / study / "figures").glob("*.yaml")):
        file = path.relative_to(root).as_posix()
        figure = figures[path.stem] = _validate(study, read_yaml(path, file), file)
        axis = "y" if isinstance(figure, Sweep) else "x"
        if figure.quantity.key not in known:
            raise SpecError(f"{file}: {axis}.key: unknown key {figure.quantity.key!r}; allowed: {', '.join(known)}")
        if isinstance(figure, Sweep):
            check_field(study, figure.x.field, f"{file}: x.field")
            check_field(study, figure.series, f"{file}: series", numeric=False)
        elif (twice := find_duplicate(figure.arms)) is not None:
            raise SpecError(f"{file}: rows: the arm {twice!r} has two rows")
    return figures
