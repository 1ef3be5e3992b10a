"""Two revisions cell by cell: what is new, gone, within chance, beyond it."""

import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from panels import node_record
from rich.console import Console
from workspace import Workspace, commit_all, make_reduced

from pipeline.report.compare import Compared, compare, print_comparison
from pipeline.schema.record import write_record


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two NODE arms with three seeds."""
    workspace = make_reduced(tmp_path / "project")
    params = workspace.read("params.yaml")
    params["node"]["digits"]["seeds"] = [0, 1, 2]
    workspace.write("params.yaml", params)
    return workspace


def write(workspace: Workspace, arm: str, accuracies: Mapping[int, float]) -> None:
    for seed, accuracy in accuracies.items():
        write_record(workspace.root / f"records/node/digits/{arm}/{seed}.json", node_record(accuracy))


def find(cells: list[Compared], arm: str, key: str = "accuracy") -> Compared:
    (cell,) = (cell for cell in cells if (cell.arm, cell.column.key) == (arm, key))
    return cell


def count_accuracies(cells: list[Compared], arm: str) -> int:
    """The columns of an arm that follow from its accuracy, in whatever tables there are: best, last, frozen."""
    return sum(cell.arm == arm and cell.column.key.startswith("accuracy") for cell in cells)


def test_a_change_is_judged_by_the_interval_of_its_paired_difference(workspace: Workspace):
    """Differences 1.0, 1.1, 1.2: mean 1.1, std 0.1, half width 4.303 * 0.1 / sqrt(3) = 0.248. And -1, 0, 2."""
    write(workspace, "baseline", {0: 90.0, 1: 92.0, 2: 94.0})
    write(workspace, "norm=batch", {0: 90.0, 1: 92.0, 2: 94.0})
    commit_all(workspace)
    write(workspace, "baseline", {0: 91.0, 1: 93.1, 2: 95.2})
    write(workspace, "norm=batch", {0: 89.0, 1: 92.0, 2: 96.0})
    cells = compare(workspace.root, "HEAD", None)
    cell = find(cells, "baseline")
    assert cell.change == "significant"
    assert cell.difference is not None
    assert cell.difference.mean == pytest.approx(1.1)
    assert cell.difference.std == pytest.approx(0.1)
    assert find(cells, "norm=batch").change == "within chance"
    assert find(cells, "baseline", "nfe").change == "same"


def test_a_permutation_of_seeds_is_a_change(workspace: Workspace):
    write(workspace, "baseline", {0: 90.0, 1: 92.0})
    commit_all(workspace)
    write(workspace, "baseline", {0: 92.0, 1: 90.0})
    assert find(compare(workspace.root, "HEAD", None), "baseline").change == "within chance"


def test_what_is_new_or_gone_or_of_one_seed_says_so(workspace: Workspace):
    write(workspace, "baseline", {0: 90.0})
    commit_all(workspace)
    first = workspace.run("git", "rev-parse", "HEAD").stdout.strip()
    write(workspace, "baseline", {0: 91.0})
    write(workspace, "norm=batch", {0: 90.0})
    commit_all(workspace)
    cells = compare(workspace.root, first, "HEAD")
    assert find(cells, "baseline").change == "one seed"
    assert find(cells, "norm=batch").change == "new"
    assert find(compare(workspace.root, "HEAD", first), "norm=batch").change == "gone"


def test_runs_of_other_seeds_are_not_paired(workspace: Workspace):
    write(workspace, "baseline", {0: 90.0})
    commit_all(workspace)
    (workspace.root / "records/node/digits/baseline/0.json").unlink()
    write(workspace, "baseline", {1: 90.0})
    assert find(compare(workspace.root, "HEAD", None), "baseline").change == "lost pairing"


def test_seeds_that_were_added_to_ones_alike_are_no_difference_of_0(workspace: Workspace):
    write(workspace, "baseline", {0: 90.0, 1: 92.0})
    write(workspace, "norm=batch", {0: 90.0, 1: 92.0})
    commit_all(workspace)
    write(workspace, "baseline", {2: 99.0})
    write(workspace, "norm=batch", {0: 91.0, 1: 93.1, 2: 99.0})
    cells = compare(workspace.root, "HEAD", None)
    assert (find(cells, "baseline").change, find(cells, "norm=batch").change) == ("lost pairing", "significant")
    console = Console(file=io.StringIO(), width=200)
    print_comparison(workspace.root, "HEAD", None, everything=False, console=console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    changed = count_accuracies(cells, "norm=batch")
    assert lines[0] == f"{len(cells)} cells: {changed} changed significantly, {len(cells) - changed} lost pairing"
    (baseline,) = (line for line in lines if "baseline" in line and "Accuracy" in line)
    assert "2 seeds alike" in baseline
    assert "+0.00" not in baseline
    (other,) = (line for line in lines if "norm=batch" in line and "Accuracy" in line)
    assert "+1.05 ± 0.07 (n = 2)" in other


def test_a_revision_of_another_layout_is_named_in_one_line(workspace: Workspace):
    commit_all(workspace)
    (workspace.root / "specs/report.yaml").unlink()
    commit_all(workspace)
    with pytest.raises(ValueError, match=r"^HEAD: it has no specs/report\.yaml: its specs/ are laid out for another"):
        compare(workspace.root, "HEAD", "HEAD~1")


def test_an_experiment_goes_by_its_name(workspace: Workspace):
    write(workspace, "baseline", {0: 90.0})
    commit_all(workspace)
    workspace.run("git", "update-ref", "refs/exps/ab/cdef/wide-net", "HEAD")
    write(workspace, "baseline", {0: 91.0})
    assert find(compare(workspace.root, "wide-net", None), "baseline").change == "one seed"


@pytest.mark.slow
def test_the_command_prints_what_differs_and_names_what_it_cannot_read(workspace: Workspace):
    write(workspace, "baseline", {0: 90.0, 1: 92.0})
    commit_all(workspace)
    write(workspace, "baseline", {0: 91.0, 1: 93.0})
    console = Console(file=io.StringIO(), width=200)
    print_comparison(workspace.root, "HEAD", None, everything=False, console=console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "+1.00 ± 0.00" in printed
    cells = compare(workspace.root, "HEAD", None)
    changed = count_accuracies(cells, "baseline")
    assert changed >= 2
    assert printed.startswith(f"{len(cells)} cells: {changed} changed significantly, {len(cells) - changed} the same\n")
    assert "one in twenty" in printed
    result = workspace.run("python", "-m", "pipeline", "compare", "no-such-thing", ok=False)
    assert (result.returncode, result.stderr) == (
        1, "error: no-such-thing: neither a revision of git nor an experiment of DVC\n",
    )  # fmt: skip
    (workspace.root / "params.yaml").write_text("studies: 3\n")
    commit_all(workspace)
    result = workspace.run("python", "-m", "pipeline", "compare", "HEAD", "HEAD~1", ok=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: HEAD: params.yaml: ")
