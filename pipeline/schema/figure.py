"""Figures: a measured quantity of records over a field that arms vary."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.schema.base import SpecError, Strict, read_yaml, validate
from pipeline.schema.study import find_study, numeric_keys


class Horizontal(Strict):
    """The horizontal axis, which is logarithmic."""

    field: str = Field(description="field that arms vary")
    label: str = Field(min_length=1, description="label, with the unit if there is one")
    base: Literal[2, 10] = Field(description="base of the logarithm; 2: a tick at each value")


class Vertical(Strict):
    """The vertical axis: mean and standard deviation over seeds of one measured quantity."""

    key: str = Field(description="key of the record")
    label: str = Field(min_length=1, description="label, with the unit if there is one")
    digits: int = Field(ge=0, le=6, description="decimals shown")


class FigureFile(Strict):
    """specs/STUDY/figures/NAME.yaml. It shows the arms of params.yaml that override at most its fields x and series."""

    title: str = Field(min_length=1)
    caption: str
    x: Horizontal
    y: Vertical
    series: str | None = Field(description="field with one line per value; null: one line")


class Figure(FigureFile):
    """A figure, and the study whose records it shows."""

    study: str


def check_field(study: str, name: str | None, where: str) -> None:
    """Refuse a name that is not a numeric field of the study's arms.

    Args:
        name: the field; None is allowed.
        where: file and key, for the message.
    """
    known = [key for key, field in find_study(study).list_fields().items() if is_number(field.info.annotation)]
    if name is not None and name not in known:
        raise SpecError(f"{where}: unknown field {name!r}; allowed: {', '.join(known)}")


def is_number(annotation: object) -> bool:
    """Whether a field's type is a number, or a number or null."""
    return annotation in (int, float, float | None, int | None)


def load_figures(root: Path, study: str) -> dict[str, Figure]:
    """Read and validate the figures of a study, by name."""
    figures, known = {}, numeric_keys(find_study(study).record)
    for path in sorted((root / "specs" / study / "figures").glob("*.yaml")):
        file = path.relative_to(root).as_posix()
        figure = Figure(study=study, **dict(validate(FigureFile, read_yaml(path, file), file)))
        if figure.y.key not in known:
            raise SpecError(f"{file}: y.key: unknown key {figure.y.key!r}; allowed: {', '.join(known)}")
        check_field(study, figure.x.field, f"{file}: x.field")
        check_field(study, figure.series, f"{file}: series")
        figures[path.stem] = figure
    return figures
