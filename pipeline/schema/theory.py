"""The table `theory`: how much untrained ODE functions depend on time, in exact enough arithmetic."""

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.schema.base import OUTDATED, SpecError, Strict, read_json, validate
from pipeline.schema.files import write_file

PATH = Path("records") / "theory.json"
EXACT = 1e-12
"""Relative changes below this are zero up to the rounding of float64."""


class Cell(Strict):
    """One design of the ODE function."""

    norm: Literal["group", "batch", "instance", "layer"]
    groups: int | None = Field(description="of norm = 'group'")
    time: Literal["concat", "linear", "mlp"]
    position: Literal["none", "linear"]
    padding: Literal["zeros", "circular"]
    vanishes: bool = Field(description="whether equation 5 says that t cancels exactly")
    change: list[float] = Field(
        description="relative change of the function from t = 0 to 1, for each seed of the weights"
    )


class Theory(Strict):
    """records/theory.json."""

    channels: int = Field(ge=1, description="C")
    size: int = Field(ge=1, description="pixels a side")
    images: int = Field(ge=1, description="random feature maps")
    cells: list[Cell]


def write_theory(root: Path, theory: Theory) -> None:
    """Write records/theory.json."""
    write_file(root / PATH, json.dumps(theory.model_dump(), indent=1) + "\n")


def read_theory(root: Path) -> Theory:
    """Read records/theory.json.

    Raises:
        SpecError: the file is missing, or not of this version.
    """
    try:
        data = read_json(root / PATH, str(PATH))
    except FileNotFoundError:
        raise SpecError(f"{PATH}: the file is missing; `dvc repro theory` writes it") from None
    return validate(Theory, data, str(PATH), advice=OUTDATED)
