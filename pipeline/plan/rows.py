"""What there is to train and to sample, and what becomes of each seed of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.plan.fate import Fate
from pipeline.schema.project import Project
from pipeline.schema.study import Run

Stage = Literal["train_node", "train_ddpm", "sample"]


@dataclass(frozen=True)
class Row:
    """One stage for one arm on one dataset: the same work for every seed."""

    stage: Stage
    run: Run
    """Of the first seed."""
    fates: dict[int, Fate]
    """By seed."""

    def seeds(self, fate: Fate) -> list[int]:
        """The seeds that have this fate."""
        return [seed for seed, each in self.fates.items() if each == fate]


def _locate(run: Run) -> str:
    return f"{run.study}/{run.dataset}/{run.arm}/{run.seed}"


def locate_record(run: Run) -> str:
    """Where the evaluation of a DDPM run writes its record."""
    return f"evaluations/{_locate(run)}.json"


def list_outputs(project: Project) -> Iterator[tuple[Stage, Run, str]]:
    """Every training and sampling that params.yaml asks for, with the path of its output."""
    runs = project.runs()
    for run in runs:
        yield ("train_node" if run.study == "node" else "train_ddpm"), run, f"runs/{_locate(run)}"
    for run in runs:
        if run.study == "ddpm":
            yield "sample", run, f"samples/{_locate(run)}"


def make_rows(project: Project, fates: Mapping[str, Fate]) -> list[Row]:
    """The rows of the plan, in the order of params.yaml; `fates` by the path of the output."""
    rows: dict[tuple[Stage, str, str], Row] = {}
    for stage, run, path in list_outputs(project):
        row = rows.setdefault((stage, run.dataset, run.arm), Row(stage, run, {}))
        row.fates[run.seed] = fates[path]
    return list(rows.values())
