"""Curves over training: curves/STUDY/CASE/QUANTITY.tsv, one row per point, for `dvc plots` and the report.

One file holds all arms and seeds of a case, so that one plot can compare arms, or two revisions.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.schema.base import SpecError, read_text
from pipeline.schema.files import replace_file
from pipeline.schema.study import Curve


@dataclass(frozen=True)
class Point:
    """A point of one run's curve."""

    arm: str
    seed: int
    at: float
    """Epoch or step; in charts of a study's own also a fraction."""
    value: float


def curve_path(root: Path, study: str, case: str, curve: Curve) -> Path:
    """The file of a curve."""
    return root / "curves" / study / case / f"{curve.name}.tsv"


def _name_columns(curve: Curve) -> list[str]:
    return [curve.over, curve.name, "arm", "seed"]


def write_curve(path: Path, curve: Curve, points: Iterable[Point]) -> None:
    """Write a curve; floats in their shortest exact form."""
    with replace_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(_name_columns(curve))
        writer.writerows([point.at, point.value, point.arm, point.seed] for point in points)


def read_rows(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read the rows of a tab-separated file with a header.

    Args:
        columns: columns that it must have; none: any.

    Raises:
        FileNotFoundError: there is no such file.
        SpecError: it is not such a table, or has other columns.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, str(path)), newline=""), delimiter="\t")
    try:
        rows = list(reader)
    except csv.Error as error:
        raise SpecError(f"{path}: not a tab-separated table: {error}") from None
    if columns and list(reader.fieldnames or ()) != list(columns):
        raise SpecError(f"{path}: not a table of {', '.join(columns)}; `dvc repro` writes it anew")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise SpecError(f"{path}: row {number}: not as many cells as the header has")
    return rows


def _read_number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not finite")
    return value


def read_curve(path: Path, curve: Curve) -> list[Point]:
    """Read a curve's points, in the file's order; empty if there is no file.

    Raises:
        SpecError: it is damaged, or was written by another version.
    """
    try:
        rows = read_rows(path, _name_columns(curve))
    except FileNotFoundError:
        return []
    points = []
    for number, row in enumerate(rows, 1):
        try:
            value = _read_number(row[curve.name])
            points.append(Point(row["arm"], int(row["seed"]), int(row[curve.over]), value))
        except ValueError as error:
            raise SpecError(f"{path}: row {number}: {error}; `dvc repro` writes it anew") from None
    return points


def list_points(curve: Curve, arm: str, seed: int, history: Sequence[Mapping[str, float | int | None]]) -> list[Point]:
    """The points of a run's curve, from the rows of its history; None values are left out."""
    found = ((row[curve.over], row[curve.history]) for row in history if curve.history is not None)
    return [Point(arm, seed, int(at), value) for at, value in found if at is not None and value is not None]


def read_history(path: Path) -> list[dict[str, float | None]]:
    """Read the rows of a run's history.tsv; an empty cell is None.

    Raises:
        SpecError: a cell is not a number.
        FileNotFoundError: there is no such file.
    """
    rows = []
    for number, row in enumerate(read_rows(path), 1):
        try:
            rows.append({key: _read_number(value) if value else None for key, value in row.items()})
        except ValueError as error:
            raise SpecError(f"{path}: row {number}: not a table of numbers: {error}") from None
    return rows
