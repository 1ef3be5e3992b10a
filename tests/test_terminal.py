"""What `make`, `make show` and `compare` print: short enough, and no name of an arm is cut."""

import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from workspace import Workspace, commit_all, copy_project

from pipeline.report.compare import print_comparison
from pipeline.report.summary import print_summary
from pipeline.report.terminal import print_tables
from pipeline.schema.project import load_project


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The code as it is here, with the results of the last commit."""
    return copy_project(tmp_path_factory.mktemp("terminal") / "project")


def make_console(width: int) -> Console:
    return Console(file=io.StringIO(), width=width)


def read(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_make_ends_with_a_screen(copied: Workspace):
    console = make_console(100)
    print_summary(copied.root, console)
    printed = read(console)
    assert len(printed.splitlines()) <= 40
    assert max(map(cell_len, printed.splitlines())) <= 100
    for said in (
        "R is a network's error",
        "Baseline (GN)",
        "disobeys, * follows",
        "Claims: holds",
        "fails     c1",
        "reports/index.html",
    ):
        assert said in printed
    assert "…" not in printed.partition("Claims")[0]


def list_wide_arms(root: Path) -> list[str]:
    """The longest names of each study."""
    project = load_project(root)
    arms = {study: {run.arm for run in project.runs() if run.study == study} for study in ("schedules", "full", "ddpm")}
    return [max(found, key=len) for found in arms.values()]


@pytest.mark.parametrize("width", [80, 100])
def test_tables_cut_no_name(copied: Workspace, width: int):
    console = make_console(width)
    print_tables(copied.root, [], console)
    printed = read(console)
    assert max(cell_len(line) for line in printed.splitlines() if line[:1] in "┏┃│") <= width
    assert "…" not in printed
    assert "disobeys, * follows" in printed
    lines = printed.splitlines()
    for arm in list_wide_arms(copied.root):
        assert any(arm.replace(",", ", ") in line for line in lines), arm


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 100])
def test_compare_cuts_no_name(copied: Workspace, tmp_path: Path, width: int):
    workspace = copy_project(tmp_path / "project")
    params = workspace.read("params.yaml")
    for study in ("schedules", "full"):
        for case in params["cases"][study]:
            params[study][case] |= {"seeds": [0], "arms": ["baseline"], "more": {"seeds": [], "arms": []}}
    workspace.write("params.yaml", params)
    commit_all(workspace)
    (workspace.root / "params.yaml").write_text((copied.root / "params.yaml").read_text())
    console = make_console(width)
    print_comparison(workspace.root, "HEAD", None, everything=False, console=console)
    lines = read(console).splitlines()
    for arm in list_wide_arms(workspace.root)[:2]:
        assert any(arm in line for line in lines), arm
    assert max(cell_len(line) for line in lines if line[:1] in "┏┃│") <= width
