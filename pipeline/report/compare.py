"""Two revisions, experiments or the workspace, cell by cell: what changed, and whether chance explains it."""

import io
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as Drawing

from pipeline.report.markdown import format_summary
from pipeline.report.panel import Panel, read_panels
from pipeline.report.statistics import Summary, find_interval, summarise, summarise_difference
from pipeline.report.terminal import open_console
from pipeline.schema.project import Project, load_project
from pipeline.schema.report import FILE as LAYOUT
from pipeline.schema.table import Column

Change = Literal["significant", "within chance", "one seed", "lost pairing", "new", "gone", "same"]
_PATHS = ("params.yaml", "specs", "records")
_STYLES: dict[Change, str] = {
    **{"significant": "bold red", "within chance": "yellow", "one seed": "yellow", "lost pairing": "magenta"},
    "new": "cyan",
}  # fmt: skip
_SUMMARY: dict[Change, str] = {
    "significant": "changed significantly",
    "within chance": "changed within chance",
    "one seed": "changed in their one seed",
    "lost pairing": "lost pairing",
    "new": "new",
    "gone": "gone",
    "same": "the same",
}


@dataclass(frozen=True)
class Compared:
    """One cell in both."""

    study: str
    case: str
    arm: str
    column: Column
    before: Summary | None
    after: Summary | None
    difference: Summary | None
    """After - before, paired by seed over the seeds that both have."""
    paired: bool
    """Whether both have the same seeds."""

    @property
    def change(self) -> Change:
        """Significant: the difference's 95 % interval excludes 0. Lost pairing: the seeds that both have are alike."""
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        if self.difference is None:
            return "lost pairing"
        if self.difference.mean == 0 and not self.difference.std:
            return "same" if self.paired else "lost pairing"
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
    if not _git(root, "ls-tree", "--name-only", commit, "--", LAYOUT):
        raise ValueError(f"{name}: it has no {LAYOUT}: its specs/ are laid out for another version of the code")
    with tempfile.TemporaryDirectory() as folder:
        there = _git(root, "ls-tree", "--name-only", commit, "--", *_PATHS).decode().split()
        archive = _git(root, "archive", "--format=tar", commit, "--", *there)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        yield Path(folder)


def _load(root: Path, name: str | None) -> tuple[Project, dict[tuple[str, str], Panel]]:
    """A revision's project and panels, by study and case.

    Raises:
        ValueError: it cannot be read by this version of the code; the message names the revision.
    """
    with _check_out(root, name) as folder:
        try:
            project = load_project(folder)
            panels = [panel for study in project.specs for panel in read_panels(folder, project, study)]
            return project, {(panel.study, panel.case): panel for panel in panels}
        except ValueError as error:
            raise ValueError(f"{name or 'workspace'}: {error}") from None


def _list_columns(projects: Sequence[Project], study: str) -> list[Column]:
    """What a study's tables show, each key once, as the first project has it."""
    found = dict[str, Column]()
    for project in projects:
        for table in project.tables.values():
            for column in table.columns if table.study == study else ():
                found.setdefault(column.key, column)
    return list(found.values())


def compare(root: Path, before: str | None, after: str | None) -> list[Compared]:
    """Every cell that one of the two has.

    Args:
        before: revision or experiment; None: the workspace.
        after: the same.

    Raises:
        ValueError: there is no such revision, or it cannot be read.
    """
    old_project, old = _load(root, before)
    project, new = _load(root, after)
    cells = []
    for study, case in dict.fromkeys([*new, *old]):
        panels = [side.get((study, case)) for side in (old, new)]
        arms = dict.fromkeys(arm for panel in reversed(panels) if panel is not None for arm in panel.arms)
        columns = _list_columns([project, old_project], study)
        for arm, column in ((arm, column) for arm in arms for column in columns):
            first, second = (panel.values(arm, column.key) if panel and arm in panel.arms else {} for panel in panels)
            if first or second:
                paired = first.keys() == second.keys()
                sides = summarise(first), summarise(second), summarise_difference(second, first)
                cells.append(Compared(study, case, arm, column, *sides, paired))
    return cells


def _show_difference(cell: Compared) -> tuple[str, str]:
    """The difference and its interval; nothing that looks like 0 where pairing was lost."""
    if cell.difference is None or cell.change == "lost pairing":
        common = f"{cell.difference.n} seeds alike" if cell.difference is not None else "no seed in common"
        return ("—" if cell.before is None or cell.after is None else common), "—"
    digits, interval = cell.column.digits, find_interval(cell.difference)
    text = format_summary(cell.difference, digits, "+") + ("" if cell.paired else f" (n = {cell.difference.n})")
    return text, "—" if interval is None else f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}"


def _row(cell: Compared) -> list[str]:
    style = _STYLES.get(cell.change, "dim")
    return [
        escape(f"{cell.study} {cell.case}"),
        escape(cell.arm),
        escape(cell.column.label),
        format_summary(cell.before, cell.column.digits),
        format_summary(cell.after, cell.column.digits),
        *_show_difference(cell),
        f"[{style}]{cell.change}[/]",
    ]


def _draw(cells: Sequence[Compared], arms: bool) -> Drawing:
    """The cells as rows, with study and arm as columns or without."""
    drawing = Drawing()
    for text in ("Study", "Arm", "Column")[0 if arms else 2 :]:
        drawing.add_column(text, no_wrap=text == "Arm")
    for text in ("Before", "After", "Difference", "95 % interval", "Change"):
        drawing.add_column(text, justify="right", overflow="fold")
    for cell in cells:
        drawing.add_row(*_row(cell)[0 if arms else 2 :])
    return drawing


def _print_cells(console: Console, title: str, cells: Sequence[Compared]) -> None:
    """One table where it fits, else one an arm below its name: no name is cut."""
    console.print(escape(title), style="bold")
    whole = _draw(cells, arms=True)
    if Measurement.get(console, console.options.update(max_width=10_000), whole).maximum <= console.width:
        console.print(whole)
        return
    for name, group in groupby(cells, lambda cell: (cell.study, cell.case, cell.arm)):
        console.print(escape(" ".join(name)), style="bold", soft_wrap=True, highlight=False)
        console.print(_draw(list(group), arms=False))


def print_comparison(
    root: Path, before: str, after: str | None, everything: bool, console: Console | None = None
) -> None:
    """Print how many cells changed in which way, then those that differ, all if `everything`."""
    console = console or open_console()
    cells = compare(root, before, after)
    counts = Counter(cell.change for cell in cells)
    told = ", ".join(f"{counts[change]} {said}" for change, said in _SUMMARY.items() if counts[change])
    console.print(f"{len(cells)} cells{': ' if told else ''}{told}", highlight=False)
    if counts["significant"]:
        console.print("Each cell stands alone: of cells without an effect, one in twenty is significant by chance.")
    if counts["lost pairing"]:
        console.print("Lost pairing: the two have other seeds, so that their difference says nothing.")
    if shown := [cell for cell in cells if everything or cell.change != "same"]:
        _print_cells(console, f"{before} → {after or 'workspace'}", shown)
