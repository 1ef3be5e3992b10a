"""A study's own parts of the report, which its module of views gives as `VIEWS`; all of them may be missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.report.panel import Panel
from pipeline.schema.architecture import Part
from pipeline.schema.project import Project
from pipeline.schema.record import Record
from pipeline.schema.study import Run, Step, find_study


def _describe_nothing(records: Sequence[Any], embedded: bool) -> list[str]:
    return []


def _differ_in_nothing(records: Sequence[Any]) -> list[str]:
    return []


def _count_nothing(*_: Any) -> dict[Step, float]:
    return {}


@dataclass(frozen=True)
class Views:
    """What the shared report asks of a study."""

    describe: Callable[[Sequence[Any], bool], list[str]] = _describe_nothing
    """(completed records, whether of the embedded scale) -> how the numbers of a table came about, a line each."""
    find_differences: Callable[[Sequence[Any]], list[str]] = _differ_in_nothing
    """Records -> the fields in which their protocols differ, so that their numbers say nothing of their arms."""
    count_flops: Callable[[Path, Project, Run, Record, Sequence[Part]], Mapping[Step, float]] = _count_nothing
    """(root, project, run, record, parts of its network) -> FLOPs of each step of the run."""
    texts: Mapping[str, Callable[[Project, Sequence[Panel]], str]] = field(default_factory=dict)
    """Views that are Markdown, by the name that specs/report.yaml has: (project, panels of the study) -> text."""
    sections: Sequence[Callable[..., Any]] = ()
    """Further sections of the page: (root, project, panels of the study) -> Section."""


def find_views(study: str) -> Views:
    """A study's own parts of the report."""
    module = find_study(study).views
    found: Views = import_module(module).VIEWS if module is not None else Views()
    return found
