"""Records as one tidy table: a row a number. Tables, figures, claims and reports/records.csv are made from it."""

from collections.abc import Iterator
from dataclasses import dataclass

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
