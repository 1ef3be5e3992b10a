"""specs/report.yaml: the views, and their order on the page and in README files."""

from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import Field

from pipeline.schema.base import SpecError, Strict, find_duplicate, read_yaml, validate

FILE = "specs/report.yaml"
VERDICTS = "verdicts"
"""The view of all claims."""
TIME_USE, CURVES, COSTS, PROVENANCE = "time_use", "curves", "costs", "provenance"
"""Sections of the page alone, about all studies."""


class TerminalTable(Strict):
    """The small table at the end of `make`."""

    table: str = Field(description="one of `tables`")
    columns: list[str] = Field(description="keys of its columns, so many as fit into 100 characters")


class ReportSpec(Strict):
    """specs/report.yaml. dvc.yaml has one stage for each entry of `tables`, `figures` and `texts`."""

    studies: list[str] = Field(description="order in which studies are named")
    tables: dict[str, str] = Field(description="each table of specs/STUDY/tables/, and its study")
    figures: dict[str, str] = Field(description="each figure of specs/STUDY/figures/, and its study")
    texts: dict[str, str] = Field(description="views that a study renders itself, and the study")
    sections: dict[str, str] = Field(
        default_factory=dict, description="parts of the page alone that a study makes itself, and the study"
    )
    order: list[str] = Field(
        description="all views, `verdicts`, and of the page alone `time_use`, `curves`, `costs`, `provenance`"
    )
    front: list[str] = Field(description="tables, figures and texts that README.md quotes")
    terminal: TerminalTable | None = Field(default=None, description="what `make` ends with, below the answer")

    def place(self, study: str) -> tuple[int, str]:
        """Sort key of a study; unlisted studies come last, by name."""
        return (self.studies.index(study) if study in self.studies else len(self.studies), study)

    def check_views(self, studies: Collection[str], tables: Mapping[str, str], figures: Mapping[str, str]) -> None:
        """Refuse a spec that no view shows, and a view that nothing makes.

        Args:
            studies: their names.
            tables: the specs there are, each with its study.
            figures: likewise.
        """
        for key, listed, known in (("tables", self.tables, tables), ("figures", self.figures, figures)):
            for name in known:
                if name not in listed:
                    raise SpecError(f"{FILE}: {key}: {name!r} is not there, so that nothing would show it")
            for name in listed:
                if name not in known:
                    raise SpecError(f"{FILE}: {key}: unknown {name!r}; allowed: {', '.join(known)}")
                if listed[name] != known[name]:
                    raise SpecError(f"{FILE}: {key}.{name} = {listed[name]!r}: it is one of the study {known[name]!r}")
        for name, study in self.texts.items():
            if study not in studies:
                raise SpecError(f"{FILE}: texts.{name} = {study!r}: unknown study; allowed: {', '.join(studies)}")
        for name in self.front:
            if name not in (quoted := [*self.tables, *self.figures, *self.texts]):
                raise SpecError(f"{FILE}: front: unknown view {name!r}; allowed: {', '.join(quoted)}")
        if self.terminal is not None and self.terminal.table not in self.tables:
            name = self.terminal.table
            raise SpecError(f"{FILE}: terminal.table: unknown table {name!r}; allowed: {', '.join(self.tables)}")
        views = [
            *self.tables,
            *self.figures,
            *self.texts,
            *self.sections,
            VERDICTS,
            TIME_USE,
            CURVES,
            COSTS,
            PROVENANCE,
        ]
        if (twice := find_duplicate(self.order)) is not None:
            raise SpecError(f"{FILE}: order: {twice!r} is listed twice")
        for name in self.order:
            if name not in views:
                raise SpecError(f"{FILE}: order: unknown view {name!r}; allowed: {', '.join(views)}")
        for name in views:
            if name not in self.order:
                raise SpecError(f"{FILE}: order: {name!r} is not there, so that the page would not show it")


def load_report(root: Path) -> ReportSpec:
    """Read and validate specs/report.yaml; whether its views exist is for the project to say."""
    return validate(ReportSpec, read_yaml(root / FILE, FILE), FILE)
