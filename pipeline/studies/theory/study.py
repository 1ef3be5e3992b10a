"""The study `theory`: how much untrained ODE functions of each design depend on time, in float64."""

from typing import Literal

from pydantic import Field

from pipeline.schema.base import Strict
from pipeline.schema.study import MeasuredRecord, Run, Study


class Cell(Strict):
    """One design of the ODE function."""

    norm: Literal["group", "batch", "instance", "layer"]
    groups: int | None = Field(description="groups of norm=group; null for other norms")
    time: Literal["concat", "linear", "mlp"]
    position: Literal["none", "linear"]
    padding: Literal["zeros", "circular"]
    vanishes: bool = Field(description="whether t cancels exactly by the paper's Equation 5")
    change: float = Field(description="relative change of the ODE function from t = 0 to 1")


class Features(Strict):
    """The random feature maps on which the designs are compared."""

    channels: int = Field(64, ge=1, le=1024, description="channels C of every ODE function")
    size: int = Field(8, ge=2, le=64, description="side of the feature maps in pixels")
    images: int = Field(4, ge=2, le=1024, description="number of feature maps, standard normal")


class TheoryRun(Run):
    """All designs, with initial weights from one seed."""

    study: Literal["theory"] = "theory"
    design: Features


class TheoryRecord(MeasuredRecord):
    """Relative change ||f(h, 1) - f(h, 0)|| / ||f(h, 0)|| of each design at initialisation, h standard normal."""

    lost: float = Field(ge=0, description="largest change among the designs in which t cancels by Equation 5")
    lost_exact: float = Field(0.0, description="the value that Equation 5 gives")
    kept: float = Field(ge=0, description="smallest change among the other designs")
    cells: list[Cell]


def _measure(run: TheoryRun) -> TheoryRecord:
    from pipeline.studies.theory.measure import measure_theory

    return measure_theory(run)


STUDY = Study(
    name="theory",
    run=TheoryRun,
    record=TheoryRecord,
    measure=_measure,
    cases=("features",),
    views="pipeline.studies.theory.views",
)
