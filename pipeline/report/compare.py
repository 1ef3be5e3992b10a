"""Two revisions, experiments or the workspace, cell by cell: what changed, and whether chance explains it."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawing

from pipeline.report.markdown import format_summary
from pipeline.report.panel import Panel, read_panel
from pipeline.report.statistics import Summary, find_interval, summarise, summarise_difference
from pipeline.report.terminal import open_console
from pipeline.schema.panel import STUDIES, StudyName
from pipeline.schema.project import Project, load_project
from pipeline.schema.table import Column

Change = Literal["same", "new", "gone", "other seeds", "one seed", "within chance", "significant"]
_PATHS = ("params.yaml", "specs", "records")
_STYLES: dict[Change, str] = {"significant": "bold red", "within chance": "yellow", "one seed": "yellow", "new": "cyan"}


@dataclass(frozen=True)
class Compared:
    """One cell in both."""

    study: StudyName
    dataset: str
    arm: str
    column: Column
    before: Summary | None
    after: Summary | None
    difference: Summary | None
    """After - before, paired by seed over the seeds that both have."""

    @property
    def change(self) -> Change:
        """Significant: the 95 % interval of the difference excludes 0."""
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        if self.difference is None:
            return "other seeds"
        if self.before == self.after and self.difference.mean == 0 and not self.difference.std:
            return "same"
        if (interval := find_interval(self.difference)) is None:
            return "one seed"
        return "within chance" if interval[0] <= 0 <= interval[1] else "significant"


def _git(root: Path, *arguments: str) -> bytes:
    result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    if result.returncode:
        raise ValueError(result.stderr.decode(errors="replace").strip().split("\n")[0])
    return result.stdout


def _resolve(root: Path, name: str) -> str:
    """The commit of a revision, or of an experiment of DVC's by its name.

    Raises:
        ValueError: there is none, or several experiments have that name.
    """
    references = _git(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").decode().splitlines()
    pairs = [line.split(" ") for line in references if not line.startswith("refs/exps/exec/")]
    found = [commit for reference, commit in pairs if reference.rsplit("/", 1)[-1] == name]
    if len(found) > 1:
        raise ValueError(f"{name}: {len(found)} experiments have that name; name the commit: {', '.join(found)}")
    try:
        return (
            found[0] if found else _git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
        )
    except ValueError:
        raise ValueError(f"{name}: neither a revision of git nor an experiment of DVC") from None


@contextmanager
def _check_out(root: Path, name: str | None) -> Iterator[Path]:
    """A folder with the panel, specs and records of a revision; the workspace itself for None."""
    if name is None:
        yield root
        return
    commit = _resolve(root, name)
    with tempfile.TemporaryDirectory() as folder:
        there = _git(root, "ls-tree", "--name-only", commit, "--", *_PATHS).decode().split()
        archive = _git(root, "archive", "--format=tar", commit, "--", *there)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        yield Path(folder)


def _load(root: Path, name: str | None) -> tuple[Project, dict[tuple[StudyName, str], Panel]]:
    """A revision's project and panels.

    Raises:
        ValueError: it cannot be read by this version of the code; the message names the revision.
    """
    with _check_out(root, name) as folder:
        try:
            project = load_project(folder)
            asked = [(study, dataset) for study in STUDIES for dataset in project.panel.active(study)]
            return project, {(study, dataset): read_panel(folder, project, study, dataset) for study, dataset in asked}
        except ValueError as error:
            raise ValueError(f"{name or 'workspace'}: {error}") from None


def _list_columns(project: Project, study: StudyName) -> list[Column]:
    """What a study's tables show, each key once."""
    columns = [column for table in project.tables.values() if table.study == study for column in table.columns]
    return list({column.key: column for column in reversed(columns)}.values())[::-1]


def compare(root: Path, before: str | None, after: str | None) -> list[Compared]:
    """Every cell that one of the two has.

    Args:
        before: revision or experiment; None: the workspace.
        after: the same.

    Raises:
        ValueError: there is no such revision, or it cannot be read.
    """
    _, old = _load(root, before)
    project, new = _load(root, after)
    cells = []
    for study, dataset in dict.fromkeys([*new, *old]):
        panels = [side.get((study, dataset)) for side in (old, new)]
        arms = dict.fromkeys(arm for panel in reversed(panels) if panel is not None for arm in panel.arms)
        for arm in arms:
            for column in _list_columns(project, study):
                first, second = (
                    panel.values(arm, column.key) if panel and arm in panel.arms else {} for panel in panels
                )
                if first or second:
                    difference = summarise_difference(second, first)
                    cells.append(Compared(study, dataset, arm, column, summarise(first), summarise(second), difference))
    return cells


def _row(cell: Compared) -> list[str]:
    digits = cell.column.digits
    interval = find_interval(cell.difference) if cell.difference is not None else None
    style = _STYLES.get(cell.change, "dim")
    return [
        escape(f"{cell.study} {cell.dataset}"),
        escape(cell.arm),
        escape(cell.column.label),
        format_summary(cell.before, digits),
        format_summary(cell.after, digits),
        format_summary(cell.difference, digits, "+"),
        "—" if interval is None else f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}",
        f"[{style}]{cell.change}[/]",
    ]


def print_comparison(
    root: Path, before: str, after: str | None, everything: bool, console: Console | None = None
) -> None:
    """Print the cells that differ, all if `everything`, and how many are the same."""
    console = console or open_console()
    cells = compare(root, before, after)
    shown = [cell for cell in cells if everything or cell.change != "same"]
    if shown:
        drawing = Drawing(title=escape(f"{before} → {after or 'workspace'}"), title_justify="left", title_style="bold")
        for text in ("Study", "Arm", "Column"):
            drawing.add_column(text, overflow="fold")
        for text in ("Before", "After", "Difference", "95 % interval", "Change"):
            drawing.add_column(text, justify="right", overflow="fold")
        for cell in shown:
            drawing.add_row(*_row(cell))
        console.print(drawing)
    same = sum(cell.change == "same" for cell in cells)
    console.print(f"{len(cells)} cells: {same} the same, {len(cells) - same} differ", highlight=False)
    if any(cell.change == "significant" for cell in cells):
        console.print("Each cell stands alone: of cells without an effect, one in twenty is significant by chance.")
