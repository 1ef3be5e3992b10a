"""A table in Markdown, LaTeX, CSV and the terminal: golden files, hostile text, numbers that survive."""

import csv
import io
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from panels import ddpm_record, failure, make_panel, node_record
from rich.console import Console
from workspace import Workspace, check_out, commit_all, copy_project, make_reduced

from pipeline.report.grid import Block, Cell, Grid, GridRow, Heading
from pipeline.report.latex import escape_latex, write_latex
from pipeline.report.markdown import render_grid
from pipeline.report.sheet import write_csv
from pipeline.report.statistics import Summary
from pipeline.report.tables import lay_out
from pipeline.report.terminal import agrees, draw_block, print_tables
from pipeline.schema.base import SpecError
from pipeline.schema.project import Project
from pipeline.schema.record import read_record, record_path, write_record
from pipeline.schema.study import find_study, numeric_keys
from pipeline.schema.table import Column, PaperValues, Row, Table

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = (
    "[1] <script>alert('x')</script> | \\input{/etc/passwd} $HOME `id` %&#_~^{} \"quoted\" 日本 \U0001f600 [red]x[/]"
)


def make_grid() -> Grid:
    """One table with everything that can befall a row."""
    table = Table(
        title="Table 9: everything that can befall a row",
        study="node",
        caption="A `caption` in **Markdown**.\n\n- First: † and p̃_t.\n- Second: 5 % of A_B.",
        rows=[
            Row(arm="baseline", label="Baseline (GN)"),
            Row(arm="norm=batch", label="Tied with the baseline"),
            Row(arm="position=linear", label="One seed of two"),
            Row(arm="activation=silu", label="Both failed"),
            Row(arm="activation=elu", label="Missing"),
            Row(arm="block=none", label="No value in a column"),
            Row(arm="time=mlp", label=HOSTILE),
        ],
        columns=[
            Column(key="accuracy", label="Accuracy", digits=2, difference=True),
            Column(key="nfe", label="NFE", digits=1),
        ],
        paper=PaperValues(
            source="arXiv 2405.14126v1, Table 1",
            n=5,
            values={"cifar10": {"baseline": {"accuracy": 91.76, "nfe": 26.0}}},
        ),
    )
    records = {
        "baseline": {0: node_record(91.0), 1: node_record(92.0)},
        "norm=batch": {0: node_record(91.0), 1: node_record(92.0, 32.0)},
        "position=linear": {0: node_record(90.25)},
        "activation=silu": {seed: failure() for seed in (0, 1)},
        "block=none": {0: node_record(91.5, None), 1: node_record(91.5, None)},
        "time=mlp": {0: node_record(90.0), 1: failure().model_copy(update={"reason": HOSTILE})},
    }
    arms = [row.arm for row in table.rows if isinstance(row, Row) and row.arm != "activation=elu"]
    panels = [
        make_panel(records, arms=[*arms, "activation=elu"]),
        make_panel({"baseline": {0: node_record(91.0)}}, "cifar10", "paper", seeds=[0]),
    ]
    return lay_out(table, panels, lambda case: [f"about `{case}`"])


@pytest.mark.parametrize("suffix", ["md", "tex", "csv"])
def test_the_files_are_as_they_were(suffix: str):
    """A change here is a change of every table: look at it, then run the test with PIPELINE_GOLDEN=write."""
    grid = make_grid()
    text = {"md": render_grid(grid), "tex": write_latex(grid, "golden"), "csv": write_csv(grid)}[suffix]
    path = GOLDEN / f"table.{suffix}"
    if os.environ.get("PIPELINE_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_csv_has_every_number_at_full_precision():
    rows = list(csv.DictReader(io.StringIO(write_csv(make_grid()))))
    found = {(row["case"], row["arm"]): row for row in rows}
    baseline = found["digits", "baseline"]
    assert float(baseline["accuracy"]) == 91.5
    assert float(baseline["accuracy.std"]) == pytest.approx(math.sqrt(0.5), abs=1e-15)
    assert baseline["accuracy.n"] == "2"
    tied = found["digits", "norm=batch"]
    assert (float(tied["accuracy.diff"]), float(tied["accuracy.diff.std"])) == (0, 0)
    single = found["digits", "position=linear"]
    assert (single["accuracy"], single["accuracy.std"], single["runs"]) == ("90.25", "", "1 of 2")
    assert found["digits", "activation=silu"]["status"] == "failed"
    assert found["digits", "activation=elu"]["status"] == "missing"
    assert found["digits", "time=mlp"]["setting"] == HOSTILE
    assert found["digits", "block=none"]["nfe"] == ""
    assert float(found["cifar10", "baseline"]["paper.accuracy"]) == 91.76
    assert found["cifar10", "norm=batch"]["status"] == "not in params.yaml"


def test_csv_keeps_the_spread_over_sets_apart_from_that_over_seeds(project: Project):
    """The FID's own deviation over seeds is empty for one seed; `fid_spread` is a key of the record."""
    panel = make_panel({"baseline": {0: ddpm_record(5.0, 5.2, 5.4)}}, seeds=[0])
    (row, *_) = csv.DictReader(io.StringIO(write_csv(lay_out(project.tables["table3"], [panel], lambda _: []))))
    assert (row["fid.n"], row["fid.std"], row["fid_spread"]) == (
        "1",
        "",
        repr(panel.values("baseline", "fid_spread")[0]),
    )
    both = make_panel({"baseline": {0: ddpm_record(5.0, 5.2), 1: ddpm_record(6.0, 6.2)}})
    (row, *_) = csv.DictReader(io.StringIO(write_csv(lay_out(project.tables["table3"], [both], lambda _: []))))
    assert float(row["fid.std"]) == pytest.approx(math.sqrt(0.5))
    assert float(row["fid_spread"]) == pytest.approx(math.sqrt(0.02))


def test_no_generated_column_can_have_the_name_of_a_key(project: Project):
    for name, table in project.tables.items():
        panel = make_panel({"baseline": {0: node_record(90.0) if table.study == "node" else ddpm_record(5.0)}})
        header = write_csv(lay_out(table, [panel], lambda _: [])).partition("\n")[0].split(",")
        assert len(set(header)) == len(header), name
        generated = {column for column in header if "." in column}
        assert not generated & set(numeric_keys(find_study(table.study).record))


def test_a_number_that_is_none_never_gets_into_a_table(tmp_path: Path):
    path = record_path(tmp_path, "node", "digits", "baseline", 0)
    write_record(path, node_record(90.0))
    path.write_text(path.read_text().replace('"accuracy": 90.0', '"accuracy": NaN'))
    with pytest.raises(SpecError, match=r"^records/node/digits/baseline/0\.json: accuracy = nan: "):
        read_record(tmp_path, "node", "digits", "baseline", 0)


def test_latex_is_text_whatever_is_in_it():
    escaped = escape_latex(HOSTILE)
    assert r"\input" not in escaped
    assert r"\textbackslash{}input\{/etc/passwd\}" in escaped
    assert "[U+65E5]" in escaped
    assert "[U+1F600]" in escaped
    assert escape_latex("p̃_t and é") == r"$\tilde{p}_t$ and é"


def make_wide() -> Grid:
    """Two cases in more columns than stand upright."""
    table = Table(
        title="Table 10: many columns",
        study="node",
        caption="A caption.",
        rows=[Row(arm="baseline", label="Baseline")],
        columns=[Column(key="accuracy", label=f"Accuracy {index}", digits=2) for index in range(9)],
    )
    records = {"baseline": {0: node_record(91.0), 1: node_record(92.0)}}
    panels = [make_panel(records), make_panel(records, "cifar10", "paper")]
    return lay_out(table, panels, lambda case: ["about it"])


def test_a_wide_table_lies_on_its_side_one_case_a_page():
    text = write_latex(make_wide(), "wide")
    assert text.count(r"\begin{table*}[p]") == text.count(r"\end{table*}") == text.count(r"\rotatebox{90}") == 2
    assert [text.count(rf"\label{{{label}}}") for label in ("tab:wide", "tab:wide-cifar10")] == [1, 1]
    assert [text.count(rf"\textbf{{{case}}}") for case in ("digits", "cifar10")] == [1, 1]
    assert r"\rotatebox" not in write_latex(make_grid(), "golden")


def has_latex() -> bool:
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode == 0


@pytest.mark.ci
def test_latex_compiles(tmp_path: Path):
    """Every table of the committed report, the golden one and a wide one."""
    if not has_latex():
        assert os.environ.get("PIPELINE_LATEX") != "required", "no LaTeX"
        pytest.skip("no LaTeX with booktabs here")
    (tmp_path / "wide.tex").write_text(write_latex(make_wide(), "wide"))
    tables = [GOLDEN / "table.tex", tmp_path / "wide.tex", *sorted((check_out().root / "reports").glob("*.tex"))]
    assert len(tables) > 5
    inputs = "\n".join(f"\\input{{{path}}}\n\\clearpage" for path in tables)
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs,graphicx}\n"
        f"\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    env = {**os.environ, "TEXMFVAR": str(tmp_path / "fonts")}  # bitmaps of fonts that it makes go elsewhere otherwise
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=env)
    assert result.returncode == 0, result.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


def print_block(block: Block) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    for part in draw_block("Title", block, 200):
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_terminal_shows_text_as_text():
    printed = print_block(make_grid().blocks[0])
    assert "[red]x[/]" in printed.replace("\n", "")


@pytest.mark.parametrize(
    ("summary", "agreed", "colour"),
    [
        (Summary(91.0, 0.5, 5), False, "31"),
        (Summary(91.7, 0.5, 5), True, "32"),
        (Summary(91.7, None, 1), None, "33"),
    ],
)
def test_a_difference_to_the_paper_is_coloured_by_our_interval(summary: Summary, agreed: bool | None, colour: str):
    """t of 4 degrees of freedom is 2.776: the interval's half width is 0.62."""
    assert agrees(summary, 91.76) is agreed
    headings = [Heading("Accuracy", "accuracy"), Heading("paper: Accuracy", "paper.accuracy", of_paper=True)]
    cells = [Cell("ours", summary), Cell("91.76", printed=91.76)]
    row = GridRow("Baseline", "baseline", str(summary.n), "completed", cells)
    printed = print_block(Block("cifar10", "CIFAR-10", "paper", headings, [row], [], []))
    assert f"\x1b[{colour}m({summary.mean - 91.76:+.2f})" in printed


@pytest.mark.slow
def test_the_terminal_says_what_is_missing(tmp_path: Path):
    workspace = make_reduced(tmp_path / "project")
    write_record(workspace.root / "records/node/digits/baseline/0.json", node_record(90.0))
    console = Console(file=io.StringIO(), width=200)
    print_tables(workspace.root, [], console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "90.00" in printed
    assert "node digits: missing: `norm=batch`, seed 0" in printed
    assert "ddpm digits: missing: `position=mlp`, seed 0" in printed
    assert "not the paper's scale" in printed
    result = workspace.run("python", "-m", "pipeline", "tables", "table9", ok=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: no table 'table9' (did you mean 'table4'?); there are ")


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The code as it is here, with the results of the last commit."""
    workspace = copy_project(tmp_path_factory.mktemp("formats") / "project")
    commit_all(workspace)
    return workspace


@pytest.mark.parametrize(
    "command",
    [["tables", "table1"], pytest.param(["compare", "HEAD", "--all"], marks=pytest.mark.slow), ["fields", "node"]],
)
def test_a_terminal_without_utf_8_loses_signs_and_no_numbers(copied: Workspace, command: list[str]):
    printed = copied.run("python", "-m", "pipeline", *command, PYTHONIOENCODING="ascii").stdout
    whole = copied.run("python", "-m", "pipeline", *command, PYTHONIOENCODING="utf-8").stdout
    numbers = re.findall(r"\d+\.\d+", whole)
    assert numbers
    assert re.findall(r"\d+\.\d+", printed) == numbers
