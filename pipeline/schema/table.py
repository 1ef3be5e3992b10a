"""A table of the paper as a view over records: rows are arms, columns are keys of a record."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.schema.base import BASELINE, ArmString, SpecError, Strict, find_duplicate, read_yaml, validate
from pipeline.schema.panel import StudyName
from pipeline.schema.record import numeric_keys


class Row(Strict):
    """One row of a table."""

    arm: ArmString
    label: str = Field(min_length=1, description="as the paper words it")


class Column(Strict):
    """One measured quantity."""

    key: str = Field(description="key of the record, and of the paper's values")
    label: str = Field(min_length=1)
    digits: int = Field(ge=0, le=6, description="decimals shown")
    difference: bool = Field(default=False, description="show the difference to the first row beside it")


class PaperValues(Strict):
    """What the paper printed."""

    source: str = Field(min_length=1)
    n: int | None = Field(description="seeds behind a value; null where the paper does not say")
    values: dict[str, dict[str, dict[str, float]]] = Field(description="dataset, arm, key of a column")


class Table(Strict):
    """specs/tables/NAME.yaml."""

    title: str = Field(min_length=1)
    study: StudyName
    caption: str
    rows: list[Row] | Literal["all"] = Field(description="all: every arm that params.yaml lists, the baseline first")
    columns: list[Column] = Field(min_length=1)
    paper: PaperValues | None = None


def load_table(root: Path, name: str) -> Table:
    """Read and validate specs/tables/NAME.yaml."""
    file = f"specs/tables/{name}.yaml"
    table = validate(Table, read_yaml(root / file), file)
    known = numeric_keys(table.study)
    if (twice := find_duplicate([column.key for column in table.columns])) is not None:
        raise SpecError(f"{file}: columns: the key {twice!r} has two columns")
    for column in table.columns:
        if column.key not in known:
            raise SpecError(f"{file}: columns: unknown key {column.key!r}; allowed: {', '.join(known)}")
    shown = shown_arms(table)
    for dataset, arms in (table.paper.values if table.paper else {}).items():
        for arm, values in arms.items():
            if arm not in shown:
                raise SpecError(f"{file}: paper.values.{dataset}: {arm!r} is no row; allowed: {', '.join(shown)}")
            for key in values:
                if key not in known:
                    raise SpecError(f"{file}: paper.values.{dataset}.{arm}: unknown key {key!r}")
    return table


def find_tables(root: Path) -> list[str]:
    """Names of the tables in specs/tables/."""
    return sorted(path.stem for path in (root / "specs" / "tables").glob("*.yaml"))


def reference_arm(table: Table) -> str:
    """The arm that differences refer to: the table's first row."""
    return BASELINE if table.rows == "all" else table.rows[0].arm


def shown_arms(table: Table) -> list[str]:
    """The arms that the file names; none where it shows all."""
    return [] if table.rows == "all" else [row.arm for row in table.rows]
