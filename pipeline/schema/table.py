"""Tables as views over records: rows are arms, columns are keys of a record."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.schema.arm import BASELINE, ArmString
from pipeline.schema.base import SpecError, Strict, find_duplicate, read_yaml, validate
from pipeline.schema.study import find_study, numeric_keys

Cases = Annotated[
    list[str] | None, Field(min_length=1, description="cases that the view shows; null: all on which the study runs")
]


class Row(Strict):
    """One row of a table."""

    arm: ArmString
    label: str = Field(min_length=1, description="label, in the paper's words")


class Column(Strict):
    """A column: one measured quantity."""

    key: str = Field(description="key of the record, and of the paper's values")
    label: str = Field(min_length=1)
    digits: int = Field(ge=0, le=6, description="decimals shown")
    difference: bool = Field(default=False, description="whether to show the difference to the first row")


class PaperValues(Strict):
    """Values printed in the paper."""

    source: str = Field(min_length=1)
    n: int | None = Field(description="seeds per value; null if the paper does not say")
    values: dict[str, dict[str, dict[str, float]]] = Field(description="values by case, arm and key of a column")


class TableFile(Strict):
    """specs/STUDY/tables/NAME.yaml."""

    title: str = Field(min_length=1)
    caption: str
    cases: Cases = None
    rows: list[Row] | Literal["all"] = Field(description="all: every arm that params.yaml lists, the baseline first")
    columns: list[Column] = Field(min_length=1)
    paper: PaperValues | None = None


class Table(TableFile):
    """A table, and the study whose records it shows."""

    study: str


def _check_keys(table: Table, file: str) -> None:
    known = numeric_keys(find_study(table.study).record)
    if (twice := find_duplicate([column.key for column in table.columns])) is not None:
        raise SpecError(f"{file}: columns: the key {twice!r} has two columns")
    for column in table.columns:
        if column.key not in known:
            raise SpecError(f"{file}: columns: unknown key {column.key!r}; allowed: {', '.join(known)}")
    shown = shown_arms(table)
    for case, arms in (table.paper.values if table.paper else {}).items():
        for arm, values in arms.items():
            if arm not in shown:
                raise SpecError(f"{file}: paper.values.{case}: {arm!r} is no row; allowed: {', '.join(shown)}")
            for key in values:
                if key not in known:
                    raise SpecError(f"{file}: paper.values.{case}.{arm}: unknown key {key!r}")


def load_tables(root: Path, study: str) -> dict[str, Table]:
    """Read and validate the tables of a study, by name."""
    tables = {}
    for path in sorted((root / "specs" / study / "tables").glob("*.yaml")):
        file = path.relative_to(root).as_posix()
        table = Table(study=study, **dict(validate(TableFile, read_yaml(path, file), file)))
        _check_keys(table, file)
        tables[path.stem] = table
    return tables


def reference_arm(table: TableFile) -> str:
    """The arm that differences refer to: the table's first row."""
    return BASELINE if table.rows == "all" else table.rows[0].arm


def shown_arms(table: TableFile) -> list[str]:
    """The arms that the file names; empty if it shows all."""
    return [] if table.rows == "all" else [row.arm for row in table.rows]
