"""A figure as a view over records: a measured quantity over a field that arms vary."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.schema.arm import list_fields
from pipeline.schema.base import SpecError, Strict, read_yaml, validate
from pipeline.schema.study import find_study, numeric_keys


class Horizontal(Strict):
    """The horizontal axis, logarithmic."""

    field: str = Field(description="that arms vary")
    label: str = Field(min_length=1, description="with the unit, if any")
    base: Literal[2, 10] = Field(description="of the logarithm; 2: a tick at each value there is")


class Vertical(Strict):
    """The vertical axis: mean and standard deviation over seeds of one measured quantity."""

    key: str = Field(description="key of the record")
    label: str = Field(min_length=1, description="with the unit, if any")
    digits: int = Field(ge=0, le=6, description="decimals shown")


class FigureFile(Strict):
    """specs/STUDY/figures/NAME.yaml. Arms: those of params.yaml that override no field but x's and the series'."""

    title: str = Field(min_length=1)
    caption: str
    x: Horizontal
    y: Vertical
    series: str | None = Field(description="one line for each value of this field; null: one line")


class Figure(FigureFile):
    """A figure, and the study whose records it shows."""

    study: str


def check_field(study: str, name: str | None, where: str) -> None:
    """Refuse what is no field that an arm of the study may override with a number."""
    known = [key for key, field in list_fields(find_study(study).run).items() if is_number(field.info.annotation)]
    if name is not None and name not in known:
        raise SpecError(f"{where}: unknown field {name!r}; allowed: {', '.join(known)}")


def is_number(annotation: object) -> bool:
    """Whether a field holds one number, or null."""
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
