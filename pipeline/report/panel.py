"""The runs that params.yaml asks for on one dataset, with the records there are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.schema.panel import StudyName
from pipeline.schema.project import Project
from pipeline.schema.record import Failure, Record, Settings, read_record
from pipeline.schema.scores import Scores
from pipeline.studies.ddpm.study import DdpmRecord

Records = Mapping[str, Mapping[int, Record | Failure]]
"""Arm to seed to record; a missing run is absent."""
NOT_RUN = "not in params.yaml"
MISSING = "missing"
FAILED = "failed"
OUTDATED = "outdated"
_CHANGES = 3
"""Changed settings that a line names."""
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
    changes: Mapping[str, Mapping[int, Sequence[str]]] = field(default_factory=dict)
    """Arm to seed to settings that are not what its record was made from: `training.epochs was 8, is 16`."""

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


def _list_changes(made: Settings, now: Settings) -> list[str]:
    """What differs; a key that only one of them has is another version's, or was not used."""
    return [f"{key} was {made[key]}, is {now[key]}" for key in made if key in now and made[key] != now[key]]


def read_panel(root: Path, project: Project, study: StudyName, dataset: str) -> Panel:
    """The arms and seeds of a dataset in params.yaml, with their records."""
    grid, spec = project.panel.datasets[dataset].grid(study), project.data.datasets[dataset]
    records: dict[str, dict[int, Record | Failure]] = {arm: {} for arm in grid.arms}
    changes: dict[str, dict[int, list[str]]] = {}
    for arm in grid.arms:
        now = project.settings(project.resolve(study, dataset, arm, seed=0))  # the same for every seed
        for seed in grid.seeds:
            if (record := read_record(root, study, dataset, arm, seed)) is not None:
                records[arm][seed] = record
                if found := _list_changes(record.settings, now):
                    changes.setdefault(arm, {})[seed] = found
    return Panel(dataset, spec.title, spec.scale, grid.arms, grid.seeds, records, changes)


def count_runs(panel: Panel, arm: str) -> str:
    """The n of an arm: `3`, or `1 of 3, 1 failed, 1 outdated`; `0` for an arm not asked for."""
    if arm not in panel.arms:
        return "0"
    completed, failed, wanted = len(panel.completed(arm)), len(panel.failed(arm)), len(panel.seeds)
    n = str(completed) if completed == wanted else f"{completed} of {wanted}"
    counts = {"failed": failed, "outdated": len(panel.changes.get(arm, {}))}
    return ", ".join([n, *(f"{count} {what}" for what, count in counts.items() if count)])


def say_absent(panel: Panel, arm: str) -> str:
    """What stands in place of a value for an arm without a completed run."""
    if arm not in panel.arms:
        return NOT_RUN
    return FAILED if len(panel.failed(arm)) == len(panel.seeds) else MISSING


def say_status(panel: Panel, arm: str) -> str:
    """Of an arm's runs together: `completed`, `outdated`, or why there is no value."""
    if not panel.completed(arm):
        return say_absent(panel, arm)
    return OUTDATED if arm in panel.changes else "completed"


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


def list_outdated(panel: Panel, arms: Iterable[str]) -> list[str]:
    """One line for the runs of an arm whose records were made from other settings than those on disk."""
    lines = []
    for arm in arms:
        same: dict[str, list[int]] = {}
        for seed, changes in sorted(panel.changes.get(arm, {}).items()):
            more = f", and {len(changes) - _CHANGES} more" if len(changes) > _CHANGES else ""
            same.setdefault(", ".join(changes[:_CHANGES]) + more, []).append(seed)
        lines += [f"outdated: `{arm}`, seed {', '.join(map(str, seeds))}: {text}" for text, seeds in same.items()]
    return lines


def list_gaps(panel: Panel, arms: Sequence[str]) -> list[str]:
    """What `dvc repro` would make: runs that are missing, and outdated ones."""
    return [*list_missing(panel, arms), *list_outdated(panel, arms)]
