"""An arm's headline numbers for `dvc metrics`: metrics/STUDY/CASE/ARM.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from pipeline.schema.files import write_json
from pipeline.schema.record import Failure, Record


def summarise_arm(keys: Sequence[str], records: Sequence[Record | Failure]) -> dict[str, float | int]:
    """Means over the completed runs, by key. A key without any value is left out.

    `failed` counts the failed runs, if there are any.
    """
    completed = [record for record in records if not isinstance(record, Failure)]
    means: dict[str, float | int] = {}
    for key in keys:
        values = [value for record in completed if (value := getattr(record, key)) is not None]
        if values:
            means[key] = fmean(values)
    failed = len(records) - len(completed)
    return {**means, "failed": failed} if failed else means


def write_metrics(path: Path, metrics: Mapping[str, float | int]) -> None:
    """Write an arm's metrics as JSON."""
    write_json(path, metrics)
