"""The rows of the plan: one for each step, study, case and arm, with what becomes of each seed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.plan.dvc.foresee import Status
from pipeline.schema.project import Project
from pipeline.schema.study import Run, Step

_FOLDERS: dict[Step, str] = {"train": "runs", "sample": "samples"}


@dataclass(frozen=True)
class Row:
    """One step of one arm: the same work for every seed."""

    step: Step
    run: Run
    """Of the first seed."""
    statuses: dict[int, Status]
    """By seed."""

    def seeds(self, status: Status) -> list[int]:
        """The seeds that have this status."""
        return [seed for seed, each in self.statuses.items() if each == status]

    @property
    def group(self) -> str:
        """STEP STUDY CASE."""
        return f"{self.step} {self.run.study} {self.run.case}"


def locate_output(step: Step, run: Run) -> str:
    """Path of what a step makes, relative to the root."""
    folder = _FOLDERS.get(step)
    return f"{folder}/{run.name}" if folder else f"evaluations/{run.name}.json"


def list_outputs(project: Project) -> Iterator[tuple[Step, Run, str]]:
    """Every step of every run that params.yaml asks for, with the path of its output: study, case, step, run."""
    runs = project.runs()
    for study, case in dict.fromkeys((run.study, run.case) for run in runs):
        own = [run for run in runs if (run.study, run.case) == (study, case)]
        for step in project.study(study).steps:
            for run in own:
                yield step, run, locate_output(step, run)


def make_rows(project: Project, statuses: Mapping[str, Status]) -> list[Row]:
    """The rows of the plan.

    Args:
        statuses: by the path of the output.
    """
    rows: dict[tuple[str, str], Row] = {}
    for step, run, path in list_outputs(project):
        row = Row(step, run, {})
        rows.setdefault((row.group, run.arm), row).statuses[run.seed] = statuses[path]
    return list(rows.values())
