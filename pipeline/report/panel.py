"""The runs that params.yaml asks for of a study on a case, with the records there are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

from pipeline.report.tidy import Row, list_rows
from pipeline.schema.arm import Arm
from pipeline.schema.project import Project
from pipeline.schema.record import Failure, Record, Settings, read_record
from pipeline.schema.study import Run

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
    """What params.yaml asks for of a study on a case, and what there is."""

    study: str
    case: str
    title: str
    """Of the case."""
    scale: str
    """`embedded`, `paper`, or `exact`."""
    seeds: Mapping[str, Sequence[int]]
    """Arm to the seeds asked for, in the order of params.yaml; its keys are `Arm`."""
    runs: Mapping[str, Run]
    """Arm to its run, of any seed."""
    records: Records
    changes: Mapping[str, Mapping[int, Sequence[str]]] = field(default_factory=dict)
    """Arm to seed to settings that are not what its record was made from: `training.epochs was 8, is 16`."""

    @property
    def arms(self) -> list[Arm]:
        """Those asked for, in the order of params.yaml."""
        return cast(list[Arm], list(self.seeds))

    @cached_property
    def rows(self) -> list[Row]:
        """The tidy table of the panel."""
        return [
            row
            for arm in self.arms
            for seed, record in self.records.get(arm, {}).items()
            for row in list_rows(self.study, self.case, arm, seed, record)
        ]

    @cached_property
    def _values(self) -> dict[tuple[str, str], dict[int, float]]:
        found: dict[tuple[str, str], dict[int, float]] = {}
        for row in self.rows:
            if row.set is None:
                found.setdefault((row.arm, row.key), {})[row.seed] = row.value
        return found

    @cached_property
    def _sets(self) -> dict[tuple[str, int, str], dict[int, float]]:
        found: dict[tuple[str, int, str], dict[int, float]] = {}
        for row in self.rows:
            if row.set is not None:
                found.setdefault((row.arm, row.seed, row.key), {})[row.set] = row.value
        return found

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
        return self._values.get((arm, key), {})

    def set_values(self, arm: str, seed: int, key: str) -> dict[int, float]:
        """A key of the sample sets of a completed run, by set; none for a key that is not measured set by set."""
        return self._sets.get((arm, seed, key), {})


def _list_changes(made: Settings, now: Settings) -> list[str]:
    """What differs; a key that only one of them has is another version's, or was not used."""
    return [f"{key} was {made[key]}, is {now[key]}" for key in made if key in now and made[key] != now[key]]


def read_panel(root: Path, project: Project, study: str, case: str) -> Panel:
    """The arms and seeds of a case in params.yaml, with their records."""
    about, seeds = project.case(study, case), dict[str, list[int]]()
    runs, changes = dict[str, Run](), dict[str, dict[int, list[str]]]()
    records = dict[str, dict[int, Record | Failure]]()
    for text, wanted in project.panel.grid(study, case).seeds_by_arm().items():
        arm = project.arm(study, case, text)
        seeds[arm], records[arm], runs[arm] = wanted, {}, project.resolve(study, case, arm, seed=0)
        now = project.settings(runs[arm])  # the same for every seed
        for seed in wanted:
            if (record := read_record(root, study, case, arm, seed)) is not None:
                records[arm][seed] = record
                if found := _list_changes(record.settings, now):
                    changes.setdefault(arm, {})[seed] = found
    return Panel(study, case, about.title, about.scale, seeds, runs, records, changes)


def read_panels(root: Path, project: Project, study: str) -> list[Panel]:
    """The panels of a study, one a case on which it runs."""
    return [read_panel(root, project, study, case) for case in project.panel.cases[study]]


def count_runs(panel: Panel, arm: str) -> str:
    """The n of an arm: `3`, or `1 of 3, 1 failed, 1 outdated`; `0` for an arm not asked for."""
    if arm not in panel.arms:
        return "0"
    completed, failed, wanted = len(panel.completed(arm)), len(panel.failed(arm)), len(panel.seeds[arm])
    n = str(completed) if completed == wanted else f"{completed} of {wanted}"
    counts = {"failed": failed, "outdated": len(panel.changes.get(arm, {}))}
    return ", ".join([n, *(f"{count} {what}" for what, count in counts.items() if count)])


def say_absent(panel: Panel, arm: str) -> str:
    """What stands in place of a value for an arm without a completed run."""
    if arm not in panel.arms:
        return NOT_RUN
    return FAILED if len(panel.failed(arm)) == len(panel.seeds[arm]) else MISSING


def select_panels(panels: Sequence[Panel], cases: Sequence[str] | None) -> list[Panel]:
    """The panels of the cases that a view shows; None: all."""
    return [panel for panel in panels if cases is None or panel.case in cases]


def say_no_case(study: str, cases: Sequence[str] | None = None) -> str:
    """What stands in place of a view of a study that runs on nothing, or on none of the view's cases."""
    lacks = "is empty" if cases is None else f"has none of {', '.join(cases)}"
    return f"No case: `cases.{study}` in params.yaml {lacks}."


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
    absent = {
        arm: [seed for seed in panel.seeds.get(arm, ()) if seed not in panel.records.get(arm, {})] for arm in arms
    }
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
