"""A figure of the paper as a view over records: a measured quantity over a field that arms vary."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.schema.base import SpecError, Strict, read_yaml, validate
from pipeline.schema.record import numeric_keys

SweepField = Literal["groups", "weight_std"]
"""A field of the NODE network that a figure or a claim may run over."""
SeriesField = Literal["channels"]
"""A field that tells the lines of a figure, or the parts of a claim, apart."""


class Horizontal(Strict):
    """The horizontal axis, logarithmic."""

    field: SweepField
    label: str = Field(min_length=1, description="with the unit, if any")
    base: Literal[2, 10] = Field(description="of the logarithm; 2: a tick at each value there is")


class Vertical(Strict):
    """The vertical axis: mean and standard deviation over seeds of one measured quantity."""

    key: str = Field(description="key of the record")
    label: str = Field(min_length=1, description="with the unit, if any")
    digits: int = Field(ge=0, le=6, description="decimals shown")


class Figure(Strict):
    """specs/figures/NAME.yaml. Arms: those of params.yaml that override no field but x's and the series'."""

    title: str = Field(min_length=1)
    study: Literal["node"]
    caption: str
    x: Horizontal
    y: Vertical
    series: SeriesField | None = Field(description="one line for each value of this field; null: one line")


def load_figure(root: Path, name: str) -> Figure:
    """Read and validate specs/figures/NAME.yaml."""
    file = f"specs/figures/{name}.yaml"
    figure = validate(Figure, read_yaml(root / file), file)
    known = numeric_keys(figure.study)
    if figure.y.key not in known:
        raise SpecError(f"{file}: y.key: unknown key {figure.y.key!r}; allowed: {', '.join(known)}")
    return figure


def find_figures(root: Path) -> list[str]:
    """Names of the figures in specs/figures/."""
    return sorted(path.stem for path in (root / "specs" / "figures").glob("*.yaml"))
