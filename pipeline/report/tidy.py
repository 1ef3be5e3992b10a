"""Records as one tidy table: a row a number. Tables, figures, claims and reports/records.csv are made from it."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from pipeline.schema.record import Failure, Record
from pipeline.schema.study import find_study, numeric_keys


@dataclass(frozen=True)
class Row:
    """One number of one run."""

    study: str
    case: str
    arm: str
    seed: int
    set: int | None
    """Of a sample set; None: of the run."""
    key: str
    value: float


def list_rows(study: str, case: str, arm: str, seed: int, record: Record | Failure) -> Iterator[Row]:
    """The numbers of a record, then those of its sample sets; what is null, or of a failed run, has no row."""
    if isinstance(record, Failure):
        return
    found = find_study(study)
    for key in numeric_keys(found.record):
        if (value := getattr(record, key)) is not None:
            yield Row(study, case, arm, seed, None, key, float(value))
    for index, numbers in enumerate(found.sets(record)):
        for key, number in numbers.items():
            yield Row(study, case, arm, seed, index, key, float(number))


class HasRows(Protocol):
    """A panel, as far as the table is concerned."""

    @property
    def rows(self) -> Iterable[Row]:
        """Its part of the table."""


def render_csv(panels: Mapping[str, Iterable[HasRows]]) -> str:
    """The tidy table of all panels as CSV (RFC 4180, UTF-8, LF), numbers in their shortest exact form.

    Args:
        panels: of each study, in the report's order.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    for found in panels.values():
        for panel in found:
            for row in panel.rows:
                number = "" if row.set is None else row.set
                writer.writerow([row.study, row.case, row.arm, row.seed, number, row.key, repr(row.value)])
    return text.getvalue()
