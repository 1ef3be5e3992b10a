"""The runs that params.yaml asks for on one dataset, with the records there are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.schema.panel import StudyName
from pipeline.schema.project import Project
from pipeline.schema.record import DdpmRecord, Failure, Record, Scores, read_record

Records = Mapping[str, Mapping[int, Record | Failure]]
"""Arm to seed to record; a missing run is absent."""
NOT_RUN = "not in params.yaml"
MISSING = "missing"
FAILED = "failed"
EMBEDDED = "the embedded default, a small network on small images: **not the paper's scale**"


@dataclass(frozen=True)
class Panel:
    """What params.yaml asks for on one dataset, and what there is."""

    dataset: str
    title: str
    scale: str
    arms: Sequence[str]
    seeds: Sequence[int]
    records: Records

    def completed(self, arm: str) -> dict[int, Record]:
        """Records of the completed runs of an arm, by seed."""
        found = self.records.get(arm, {})
        return {seed: record for seed, record in found.items() if not isinstance(record, Failure)}

    def failed(self, arm: str) -> dict[int, Failure]:
        """The failed runs of an arm, by seed."""
        found = self.records.get(arm, {})
        return {seed: record for seed, record in found.items() if isinstance(record, Failure)}

    def values(self, arm: str, key: str) -> dict[int, float]:
        """A key of the completed runs of an arm, by seed; a run whose value is null is absent."""
        values = {seed: getattr(record, key) for seed, record in self.completed(arm).items()}
        return {seed: float(value) for seed, value in values.items() if value is not None}

    def set_values(self, arm: str, seed: int, key: str) -> dict[int, float]:
        """A key of the sample sets of a completed run, by set; none for a key that is not measured set by set."""
        record = self.completed(arm).get(seed)
        if not isinstance(record, DdpmRecord) or key not in Scores.model_fields:
            return {}
        return {index: float(getattr(scores, key)) for index, scores in enumerate(record.sets)}


def read_panel(root: Path, project: Project, study: StudyName, dataset: str) -> Panel:
    """The arms and seeds of a dataset in params.yaml, with their records."""
    grid, spec = project.panel.datasets[dataset].grid(study), project.data.datasets[dataset]
    records: dict[str, dict[int, Record | Failure]] = {arm: {} for arm in grid.arms}
    for arm in grid.arms:
        for seed in grid.seeds:
            if (record := read_record(root, study, dataset, arm, seed)) is not None:
                records[arm][seed] = record
    return Panel(dataset, spec.title, spec.scale, grid.arms, grid.seeds, records)


def count_runs(panel: Panel, arm: str) -> str:
    """The n of an arm: `3`, or `1 of 3, 1 failed` where a run failed or is missing; `0` for an arm not asked for."""
    if arm not in panel.arms:
        return "0"
    completed, failed, wanted = len(panel.completed(arm)), len(panel.failed(arm)), len(panel.seeds)
    n = str(completed) if completed == wanted else f"{completed} of {wanted}"
    return f"{n}, {failed} failed" if failed else n


def say_absent(panel: Panel, arm: str) -> str:
    """What stands in place of a value for an arm without a completed run."""
    if arm not in panel.arms:
        return NOT_RUN
    return FAILED if len(panel.failed(arm)) == len(panel.seeds) else MISSING


def list_failed(panel: Panel, arms: Iterable[str]) -> list[str]:
    """One line for each failed run of some arms."""
    return [
        f"failed: `{arm}`, seed {seed}, after {failure.step} steps, in epoch {failure.epoch}: "
        + failure.reason.strip().rstrip(".")
        for arm in arms
        for seed, failure in sorted(panel.failed(arm).items())
    ]


def list_missing(panel: Panel, arms: Iterable[str]) -> list[str]:
    """One line for each arm of which runs are missing: asked for, and neither completed nor failed."""
    absent = {arm: [seed for seed in panel.seeds if seed not in panel.records.get(arm, {})] for arm in arms}
    return [f"missing: `{arm}`, seed {', '.join(map(str, seeds))}" for arm, seeds in absent.items() if seeds]
