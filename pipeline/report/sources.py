"""What the report is made from: settings, records, ledger; read once for all its parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.report.claims import Page, judge_records
from pipeline.report.costs import Books, find_mixtures, read_books
from pipeline.report.grid import Grid
from pipeline.report.panel import Panel, read_panels
from pipeline.report.protocol import describe_baseline
from pipeline.report.tables import lay_out
from pipeline.schema.project import Project
from pipeline.schema.record import Failure, Record
from pipeline.schema.study import Run


@dataclass(frozen=True)
class Sources:
    """The settings, and what there is of the runs that they ask for."""

    root: Path
    project: Project
    panels: Mapping[str, Sequence[Panel]]
    """Of each study, one a case."""
    verdicts: Sequence[Page]
    runs: Sequence[tuple[Run, Record | Failure | None]]
    books: Books

    @property
    def embedded(self) -> bool:
        """Whether any case is of the small default."""
        return any(panel.scale == "embedded" for panels in self.panels.values() for panel in panels)

    def lay_out_table(self, name: str) -> Grid:
        """The cells of a table of specs/."""
        table = self.project.tables[name]
        return lay_out(
            table,
            self.panels[table.study],
            lambda case: describe_baseline(self.project, table.study, case),
        )

    def find_mixtures(self, study: str) -> list[str]:
        """Where a study's numbers were made in places that may give different bytes."""
        return find_mixtures({key: entries for key, entries in self.books.items() if key[0] == study})


def read_sources(root: Path, project: Project) -> Sources:
    """Read the records and the ledger."""
    panels = {study: read_panels(root, project, study) for study in project.specs}
    records = {
        (study, panel.case, str(arm), seed): record
        for study, found in panels.items()
        for panel in found
        for arm, of_arm in panel.records.items()
        for seed, record in of_arm.items()
    }
    runs = [(run, records.get((run.study, run.case, run.arm, run.seed))) for run in project.runs()]
    books = read_books(root, [run for run, _ in runs])
    return Sources(root, project, panels, judge_records(root, project), runs, books)
