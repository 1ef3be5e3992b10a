"""A study's own parts of the report, which its module of views gives as `VIEWS`; all of them may be missing.

A study without any is shown all the same: its tables, figures, claims, curves, costs and runs are made by shared code.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.report.grid import Grid
from pipeline.report.panel import Panel
from pipeline.schema.architecture import Part
from pipeline.schema.base import SpecError
from pipeline.schema.project import Project
from pipeline.schema.record import Record
from pipeline.schema.report import FILE
from pipeline.schema.study import Step, find_study

TITLE = "Does the timestep embedding disappear?"
"""Of the page, and of the picture beside a link to it."""
Chart = dict[str, Any]
"""A Vega-Lite specification."""
ReadCurve = Callable[[str], Sequence[float]]
"""The name of a curve to its values of one run, in order; none where there is no such file."""


@dataclass(frozen=True)
class Drawing:
    """An interactive chart, with what stands in its place where there is no script."""

    id: str
    title: str
    """Its name for those who cannot see it, and its heading."""
    chart: Chart
    static: str
    """SVG."""


@dataclass(frozen=True)
class Section:
    """A part of the page: text, a table, charts; any may be missing."""

    id: str
    title: str
    """Up to a colon it is the name in the table of contents."""
    text: str = ""
    """Markdown."""
    grid: Grid | None = None
    drawings: Sequence[Drawing] = ()
    notes: Sequence[str] = ()
    """Markdown."""


@dataclass(frozen=True)
class SiteWords:
    """How the diagrams of a study's sites are introduced."""

    study: str
    """Its short name."""
    place: str
    """What is drawn; `{sites}` is how many there are."""
    part: str
    """The part of the network whose FLOPs stand below."""
    label: str
    """What that part is called."""


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
    count_flops: Callable[[Project, Any, Record, Sequence[Part], ReadCurve], Mapping[Step, float]] = _count_nothing
    """(project, run, record, parts of its network, its curves) -> FLOPs of each step of the run."""
    texts: Mapping[str, Callable[[Project, Sequence[Panel]], str]] = field(default_factory=dict)
    """Views that are Markdown, by the name that specs/report.yaml has: (project, panels of the study) -> text."""
    drawings: Mapping[str, Callable[[Project, Sequence[Panel]], Sequence[Drawing]]] = field(default_factory=dict)
    """Charts that the page shows below a text, by the text's name."""
    sections: Mapping[str, Callable[[Path, Project, Sequence[Panel]], Section]] = field(default_factory=dict)
    """Parts of the page alone, by the name that specs/report.yaml has: (root, project, panels of the study)."""
    curves: Collection[str] = ()
    """Curves that `sections` show; the others are among the learning curves."""
    site: SiteWords | None = None
    """Of a study whose networks the schematic shows."""


def find_views(study: str) -> Views:
    """A study's own parts of the report."""
    module = find_study(study).views
    found: Views = import_module(module).VIEWS if module is not None else Views()
    return found


def render_text(name: str, project: Project, panels: Sequence[Panel]) -> str:
    """A text of specs/report.yaml, as Markdown with a heading.

    Args:
        panels: of its study.

    Raises:
        SpecError: the study has no such text.
    """
    study = project.report.texts[name]
    if (render := find_views(study).texts.get(name)) is None:
        raise SpecError(f"{FILE}: texts.{name}: the study {study!r} has no such text")
    return render(project, panels)


def make_section(name: str, root: Path, project: Project, panels: Sequence[Panel]) -> Section:
    """A section of specs/report.yaml.

    Args:
        panels: of its study.

    Raises:
        SpecError: the study has no such section.
    """
    study = project.report.sections[name]
    if (make := find_views(study).sections.get(name)) is None:
        raise SpecError(f"{FILE}: sections.{name}: the study {study!r} has no such section")
    return make(root, project, panels)
