"""specs/report.yaml: the views, and their order on the page and in README files."""

from collections.abc import Collection
from pathlib import Path

from pydantic import Field

from pipeline.schema.base import SpecError, Strict, find_duplicate, read_yaml, validate

FILE = "specs/report.yaml"
VERDICTS = "verdicts"
"""The view of all claims."""


class ReportSpec(Strict):
    """specs/report.yaml. dvc.yaml has one stage for each entry of `tables`, `figures` and `texts`."""

    studies: list[str] = Field(description="studies, in the report's order")
    tables: dict[str, str] = Field(description="tables of specs/STUDY/tables/, each with its study")
    figures: dict[str, str] = Field(description="figures of specs/STUDY/figures/, each with its study")
    texts: dict[str, str] = Field(description="views that a study renders itself, each with its study")
    order: list[str] = Field(description="order of all views, with `verdicts`")
    front: list[str] = Field(description="tables that README.md shows")

    def place(self, study: str) -> tuple[int, str]:
        """Sort key of a study; unlisted studies come last, by name."""
        return (self.studies.index(study) if study in self.studies else len(self.studies), study)

    def check_views(self, tables: Collection[str], figures: Collection[str]) -> None:
        """Refuse a spec that no view shows, and a view without a spec.

        Args:
            tables: names of the table specs.
            figures: names of the figure specs.

        Raises:
            SpecError: the first mistake.
        """
        for key, listed, known in (("tables", self.tables, tables), ("figures", self.figures, figures)):
            for name in known:
                if name not in listed:
                    raise SpecError(f"{FILE}: {key}: {name!r} is not there, so that nothing would show it")
            for name in listed:
                if name not in known:
                    raise SpecError(f"{FILE}: {key}: unknown {name!r}; allowed: {', '.join(known)}")
        views = [*self.tables, *self.figures, *self.texts, VERDICTS]
        if (twice := find_duplicate(self.order)) is not None:
            raise SpecError(f"{FILE}: order: {twice!r} is listed twice")
        for name in self.order:
            if name not in views:
                raise SpecError(f"{FILE}: order: unknown view {name!r}; allowed: {', '.join(views)}")
        for name in views:
            if name not in self.order:
                raise SpecError(f"{FILE}: order: {name!r} is not there, so that the page would not show it")
        for name in self.front:
            if name not in self.tables:
                raise SpecError(f"{FILE}: front: unknown table {name!r}; allowed: {', '.join(self.tables)}")


def load_report(root: Path) -> ReportSpec:
    """Read and validate specs/report.yaml; `load_project` checks that its views exist."""
    return validate(ReportSpec, read_yaml(root / FILE), FILE)
