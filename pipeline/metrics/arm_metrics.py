"""The few numbers of an arm that DVC's own tools show: metrics/STUDY/CASE/ARM.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from pipeline.schema.files import write_json
from pipeline.schema.record import Failure, Record


def summarise_arm(keys: Sequence[str], records: Sequence[Record | Failure]) -> dict[str, float | int]:
    """Means over the completed runs, without what none has a value of; `failed`, where there are, counts the others."""
    completed = [record for record in records if not isinstance(record, Failure)]
    means: dict[str, float | int] = {}
    for key in keys:
        values = [value for record in completed if (value := getattr(record, key)) is not None]
        if values:
            means[key] = fmean(values)
    failed = len(records) - len(completed)
    return {**means, "failed": failed} if failed else means


def write_metrics(path: Path, metrics: Mapping[str, float | int]) -> None:
    """Write them as JSON."""
    write_json(path, metrics)
