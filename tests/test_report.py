"""Statistics, tables and page from records made by hand."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from panels import cells, ddpm_record, failure, make_panel, make_record, node_record
from problems import ROOT
from rich.console import Console
from workspace import copy_settings, find_settings

from pipeline.report.markdown import align_table, escape_cell, render_grid
from pipeline.report.page import Preview, render_page
from pipeline.report.panel import Panel, count_runs, list_outdated, read_panel
from pipeline.report.statistics import MAX_N, find_interval, needed_n, summarise
from pipeline.report.tables import lay_out
from pipeline.report.terminal import print_tables
from pipeline.report.tidy import render_csv
from pipeline.schema.base import SpecError
from pipeline.schema.project import load_project
from pipeline.schema.record import read_record, record_path, write_record
from pipeline.schema.table import Table, load_tables, shown_arms
from pipeline.studies.theory.study import Cell, TheoryRecord
from pipeline.studies.theory.views import render_theory


def test_equal_values_have_no_spread_at_all():
    summary = summarise(dict.fromkeys(range(3), 0.1))
    assert summary is not None
    assert (summary.mean, summary.std) == (0.1, 0.0)
    assert find_interval(summary) == (0.1, 0.1)
    assert summarise({}) is None


def test_an_interval_is_students():
    # Mean 2, standard deviation 1; the two-sided 95 % point of t with 2 degrees of freedom is 4.3027 (any table of t).
    summary = summarise({0: 1.0, 1: 2.0, 2: 3.0})
    assert summary is not None
    interval = find_interval(summary)
    assert interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)
    single = summarise({0: 1.0})
    assert single is not None
    assert find_interval(single) is None


def test_an_interval_covers_the_truth_in_95_of_100_cases():
    draws = np.random.default_rng(0).normal(1.5, 2.0, (4000, 4))
    covered = 0
    for draw in draws.tolist():
        summary = summarise(dict(enumerate(draw)))
        assert summary is not None
        low, high = find_interval(summary) or (0.0, 0.0)
        covered += low < 1.5 < high
    assert covered / len(draws) == pytest.approx(0.95, abs=0.011)  # three standard deviations of the proportion


@pytest.mark.parametrize(
    ("mean", "std", "n"),
    [
        # t(n - 1) / sqrt(n): 0.9535 at n = 7, 1.0494 at 6; 1.5914 at 4, 2.4841 at 3; 8.9846 at 2.
        (1.0, 1.0, 7), (-1.0, 1.0, 7), (1.6, 1.0, 4), (1.59, 1.0, 5), (9.0, 1.0, 2), (1.0, 0.0, 2),
        (0.0, 1.0, None), (1.0, None, None), (1.0, 1e4, None),
    ],
)  # fmt: skip
def test_the_needed_n_is_the_smallest_that_excludes_0(mean: float, std: float | None, n: int | None):
    assert needed_n(mean, std) == n


def test_the_needed_n_is_at_most_the_cap():
    # t is 1.9602 for so many seeds: (51 t)^2 = 9994, (51.1 t)^2 = 10033.
    n = needed_n(1.0, 51.0)
    assert n is not None
    assert 9990 < n <= MAX_N
    assert needed_n(1.0, 51.1) is None


TABLES = {name: table for study in ("node", "ddpm") for name, table in load_tables(ROOT, study).items()}


def describe(case: str) -> list[str]:
    return [f"about {case}"]


def render_table(table: Table, panels: Sequence[Panel], describe: Callable[[str], list[str]]) -> str:
    return render_grid(lay_out(table, panels, describe))


def test_a_table_shows_its_cases_alone():
    panels = [make_panel({"baseline": {0: node_record(90.0)}}, case) for case in ("digits", "cifar10")]
    table = TABLES["node_arms"].model_copy(update={"cases": ["cifar10"]})
    text = render_table(table, panels, describe)
    assert ("### cifar10" in text, "### digits" in text) == (True, False)
    assert "`cases.node` in params.yaml has none of cifar10" in render_table(table, panels[:1], describe)


def test_a_table_shows_mean_spread_n_and_the_paired_difference():
    records = {
        "baseline": {0: node_record(90.0), 1: node_record(92.0)},
        "norm=batch": {0: node_record(91.0, 32.0), 1: node_record(93.0, 38.0)},
    }
    text = render_table(TABLES["table1"], [make_panel(records)], describe)
    assert cells(text, "Setting") == [
        "Setting",
        "Arm",
        "n",
        "Accuracy",
        "Diff",
        "Last epoch",
        "NFE",
        "NFE-B",
        "Use of t",
    ]
    assert cells(text, "Baseline") == [
        "Baseline (GN)",
        "`baseline`",
        "2",
        "91.00 ± 1.41",
        "—",
        "90.00 ± 1.41",
        "26.0 ± 0.0",
        "32.0 ± 0.0",
        "0.2500 ± 0.0000",
    ]
    assert cells(text, "Replace")[2:5] == ["2", "92.00 ± 1.41", "+1.00 ± 0.00"]
    assert cells(text, "Replace")[6] == "35.0 ± 4.2"
    assert "not the paper's scale" in text
    assert "about digits" in text


def test_a_column_without_any_value_is_left_out():
    direct = node_record(90.0).model_copy(update={"nfe_backward": None})
    records = {"baseline": {0: direct}, "norm=batch": {0: direct}}
    text = render_table(TABLES["table1"], [make_panel(records, seeds=[0])], describe)
    assert "NFE-B" not in cells(text, "Setting")
    records = {"baseline": {0: node_record(90.0)}, "norm=batch": {0: direct}}
    text = render_table(TABLES["table1"], [make_panel(records, seeds=[0])], describe)
    assert cells(text, "Setting")[-2] == "NFE-B"
    assert cells(text, "Replace")[-2] == "—"


def test_missing_runs_are_shown_as_missing():
    records = {"baseline": {0: node_record(90.0)}, "norm=batch": {}}
    text = render_table(TABLES["table1"], [make_panel(records)], describe)
    assert cells(text, "Baseline")[2:4] == ["1 of 2", "90.00"]
    assert cells(text, "Replace")[2:5] == ["0 of 2", "missing", "—"]
    assert cells(text, "Inject")[2:5] == ["0", "not in params.yaml", "—"]


def test_failed_runs_are_counted_and_named():
    records = {
        "baseline": {0: node_record(90.0), 1: failure(epoch=4), 2: node_record(92.0)},
        "norm=batch": {seed: failure() for seed in range(3)},
        "position=linear": {0: failure()},
    }
    text = render_table(TABLES["table1"], [make_panel(records, seeds=range(3))], describe)
    assert cells(text, "Baseline")[2:4] == ["2 of 3, 1 failed", "91.00 ± 1.41"]
    assert cells(text, "Replace")[2:5] == ["0 of 3, 3 failed", "failed", "—"]
    assert cells(text, "Inject")[2:5] == ["0 of 3, 1 failed", "missing", "—"]
    assert (
        "- failed: `baseline`, seed 1, after 30 steps, in epoch 4: the solver took more than 1000 steps."
        in text.splitlines()
    )
    assert text.count("- failed:") == 5


def test_a_value_that_a_record_has_not_is_a_dash_and_its_n_is_its_own():
    records = {
        "baseline": {0: node_record(90.0), 1: node_record(92.0, nfe_backward=None)},
        "block=none": {seed: node_record(80.0, None, nfe_backward=None) for seed in range(2)},
    }
    text = render_table(TABLES["table1"], [make_panel(records)], describe)
    assert cells(text, "Baseline")[6:] == ["26.0 ± 0.0", "32.0 (n = 1)", "0.2500 ± 0.0000"]
    assert cells(text, "Control: no ODE block (ours)")[2:] == [
        "2", "80.00 ± 0.00", "-11.00 ± 1.41", "79.00 ± 0.00", "—", "—", "0.2500 ± 0.0000",
    ]  # fmt: skip


def test_the_papers_values_stand_beside_ours_on_cifar_only():
    records = {"baseline": {0: node_record(91.0)}, "norm=batch": {0: node_record(90.0)}}
    table = TABLES["table1"]
    digits, cifar = make_panel(records, seeds=[0]), make_panel(records, "cifar10", "paper", seeds=[0])
    text = render_table(table, [cifar], describe)
    header, row = cells(text, "Setting"), cells(text, "Replace")
    assert header[-3:] == ["paper: Accuracy", "paper: Diff", "paper: NFE"]
    assert row[-3:] == ["91.11", "-0.65", "34.6"]
    assert "not the paper's scale" not in text
    assert "5 seeds, spread not given" in text
    assert "paper:" not in render_table(table, [digits], describe)


@pytest.mark.parametrize(
    ("name", "case", "differences"),
    [
        ("table1", "cifar10", [-0.65, 0.04]), ("table1", "cifar100", [-1.46, 0.39]),
        ("table2", "cifar10", [-0.03, 0.15]), ("table2", "cifar100", [-0.45, 0.21]),
    ],
)  # fmt: skip
def test_the_papers_differences_are_those_of_its_rows(name: str, case: str, differences: list[float]):
    """The Diff columns that the paper prints, against the values that we carry over."""
    table = TABLES[name]
    assert table.paper is not None
    values = table.paper.values[case]
    accuracies = [values[arm]["accuracy"] for arm in shown_arms(table) if arm in values]
    assert [round(value - accuracies[0], 2) for value in accuracies[1:]] == differences


REMEDIES = ["position=mlp", "position=mlp,zero_bias=conv", "position=mlp,zero_bias=conv,groups=1"]


def test_table_3_shows_the_mean_over_the_sets_their_spread_and_the_lowest_snapshot():
    records = {
        "baseline": {0: ddpm_record(5.0, 5.2, 5.1)},
        REMEDIES[0]: {0: ddpm_record(4.0, 4.4, 4.2, fid_best=3.5, best_snapshot=500)},
        REMEDIES[1]: {0: failure()},
        REMEDIES[2]: {},
        "position=mlp,position_mean=true": {0: ddpm_record(5.0)},
    }
    text = render_table(TABLES["table3"], [make_panel(records, seeds=[0])], describe)
    assert cells(text, "Setting") == [
        "Setting", "Arm", "n", "FID ↓", "Diff", "Spread", "FID min", "at step", "IS ↑", "Diff", "Test loss ↓",
        "Diff",
    ]  # fmt: skip
    rows = [cells(text, label)[2:] for label in ("Baseline", "+Inject", "+Zero", "+Set", "Control: m", "Control: r")]
    assert rows == [
        ["1", "5.100", "—", "0.100", "2.000", "250", "9.490", "—", "0.0500", "—"],
        ["1", "4.200", "-0.900", "0.200", "3.500", "500", "9.580", "+0.090", "0.0400", "-0.0100"],
        ["0 of 1, 1 failed", "failed", *["—"] * 8],
        ["0 of 1", "missing", *["—"] * 8],
        ["1", "5.000", "-0.100", "—", "2.000", "250", "9.500", "+0.010", "0.0500", "+0.0000"],
        ["0", "not in params.yaml", *["—"] * 8],
    ]
    failed = "- failed: `position=mlp,zero_bias=conv`, seed 0, after 30 steps, in epoch 2: the solver took more than"
    assert failed in text


def test_table_3_over_seeds_takes_the_mean_over_its_sets_for_each():
    records = {
        "baseline": {0: ddpm_record(5.0, 5.2), 1: ddpm_record(5.5, 5.7)},
        REMEDIES[0]: {0: ddpm_record(4.0, 4.4), 1: ddpm_record(5.0, 5.2)},
    }
    text = render_table(TABLES["table3"], [make_panel(records, "cifar10", "paper")], describe)
    assert cells(text, "Baseline")[2:7] == ["2", "5.350 ± 0.354", "—", "0.141 ± 0.000", "2.250 ± 0.354"]
    # Differences -0.9 and -0.5.
    assert cells(text, "+Inject")[2:6] == ["2", "4.650 ± 0.636", "-0.700 ± 0.283", "0.212 ± 0.100"]
    assert cells(text, "Setting")[12:] == ["paper: FID ↓", "paper: Diff", "paper: IS ↑", "paper: Diff"]
    assert cells(text, "+Inject")[12:] == ["3.199", "-0.039", "9.539", "+0.032"]
    assert cells(text, "Control: r")[12:] == ["—"] * 4


def test_every_reading_of_the_inception_score_has_a_column_of_its_own():
    records = {"baseline": {0: ddpm_record(5.0, 5.2)}}
    text = render_table(TABLES["ddpm_scores"], [make_panel(records, seeds=[0])], describe)
    assert dict(zip(cells(text, "Setting"), cells(text, "Baseline"), strict=True)) == {
        "Setting": "Baseline", "Arm": "`baseline`", "n": "1", "KID ↓": "0.00510", "Diff": "—", "IS ↑": "9.490",
        "IS, splits": "8.990", "IS, bias": "10.490", "IS, bias, splits": "9.990",
        "Test loss ↓": "0.0500", "Shuffled": "0.3000", "Mean level": "0.2500", "Use of level": "0.2000",
    }  # fmt: skip


def test_the_protocol_below_a_ddpm_table_is_the_records():
    records = {"baseline": {0: ddpm_record(5.0, 5.2)}}
    text = render_table(TABLES["table3"], [make_panel(records, seeds=[0])], describe)
    notes = [line for line in text.split("### digits")[1].splitlines() if line.startswith("- ")]
    assert notes[1:6] == [
        "- sample sets: 2, of 500 images each, from the averaged weights after 500 training steps; a run's value is "
        "the mean over its sets; reference: 1437 images, all of the training split, unflipped.",
        "- 50 sampling steps; sampler ancestral, clip False, labels fractional, variance small, quantisation truncate, "
        "weights trained.",
        "- snapshots with samples: 2, after 250 to 500 steps; one sample set each.",
        f"- features (64) and logits of `classifier-0123`, sha256 of its weights `{'0123' * 16}`; KID: mean over 100 "
        "subsets of 200 images; IS: all images of a set at once, from logits without their bias; splits: mean over 10 "
        "splits instead; bias: from the logits as they are.",
        "- versions: numpy 2.3.1, torch 2.15.0, torch-fidelity 0.4.0.",
    ]


def test_records_of_different_protocols_are_not_passed_off_as_one():
    other = {"images": 50000, "clip": True, "versions": {"numpy": "2.3.1", "torch": "2.14.0"}}
    records = {"baseline": {0: ddpm_record(17.5), 1: ddpm_record(17.0, protocol=other, training_steps=9)}}
    text = render_table(TABLES["table3"], [make_panel(records)], describe)
    assert "after (mixed: 500, 9) training steps" in text
    assert "of (mixed: 500, 50000) images each" in text
    assert "clip (mixed: False, True)" in text
    assert "numpy 2.3.1, torch (mixed: 2.14.0, 2.15.0), torch-fidelity (mixed: 0.4.0, unknown)" in text


def test_a_fid_on_digits_is_said_to_be_comparable_with_nothing_else():
    records = {"baseline": {0: ddpm_record(17.5)}}
    table = TABLES["table3"]
    assert "comparable with nothing else" in render_table(table, [make_panel(records, seeds=[0])], describe)
    paper_scale = make_panel(records, "cifar10", "paper", seeds=[0])
    assert "comparable with nothing else" not in render_table(table, [paper_scale], describe)


def test_a_sweep_shows_up_in_the_table_of_all_arms_with_the_baseline_first():
    records = {"groups=2": {0: node_record(95.0)}, "baseline": {0: node_record(94.0)}}
    text = render_table(TABLES["node_arms"], [make_panel(records, seeds=[0])], describe)
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert ["`baseline`" in rows[0], "`groups=2`" in rows[1]] == [True, True]
    assert "+1.00" in rows[1]


def test_cells_are_text_and_columns_line_up():
    assert escape_cell("<b>|a\nb") == "&lt;b&gt;\\|a b"
    table = align_table(["A", "n"], [["p̃", "1"], ["long", "22"]], left=1)
    assert table.splitlines()[1] == "| ---- | --: |"
    assert table.splitlines()[2] == "| p̃    |   1 |"


def test_records_survive_the_disk_and_a_broken_one_is_named(tmp_path):
    path = record_path(tmp_path, "node", "digits", "time=mlp,zero_bias=all", 3)
    write_record(path, node_record(91.23456789))
    assert read_record(tmp_path, "node", "digits", "time=mlp,zero_bias=all", 3) == node_record(91.23456789)
    assert read_record(tmp_path, "node", "digits", "baseline", 0) is None
    path.write_text("{")
    with pytest.raises(SpecError, match=r"zero_bias=all/3\.json: not JSON"):
        read_record(tmp_path, "node", "digits", "time=mlp,zero_bias=all", 3)
    write_record(path, failure())
    assert read_record(tmp_path, "node", "digits", "time=mlp,zero_bias=all", 3) == failure()
    path.write_text('{"accuracy": 101}')
    with pytest.raises(SpecError, match=r"3\.json: accuracy"):
        read_record(tmp_path, "node", "digits", "time=mlp,zero_bias=all", 3)


def test_the_page_warns_of_the_scale_and_shows_every_preview():
    preview = Preview("digits", "position=mlp", 0, "x.png")
    page = render_page({"table1": "## Table 1\n"}, [preview], embedded=True)
    assert "not the paper's scale" in page
    assert "## Table 1" in page
    assert "(<previews/x.png>)" in page
    assert "(<trajectories/x.png>)" in page
    assert "not the paper's scale" not in render_page({}, [], embedded=False)


def test_the_theory_marks_exact_zeros_and_a_cell_that_should_be_one_and_is_not():
    def cell(padding: str, position: str, vanishes: bool, change: float) -> Cell:
        fields = {"time": "concat", "position": position, "padding": padding, "vanishes": vanishes, "change": change}
        return Cell.model_validate({"norm": "batch", "groups": None, **fields})

    found = [cell("zeros", "none", False, 0.1), cell("circular", "none", True, 4e-16)]
    found += [cell("zeros", "linear", False, 0.35), cell("circular", "linear", True, 1e-9)]
    record = TheoryRecord(lost=1e-9, kept=0.1, cells=found)
    panel = make_panel({"baseline": {0: record}}, "features", "exact", seeds=[0])
    row = cells(render_theory(load_project(find_settings()), [panel]), "concatenated channel")
    assert row == ["concatenated channel", "batch", "0.1000", "**0** (4e-16)", "0.3500", "1.0e-09, not 0!"]


def test_without_the_baseline_the_table_says_why_there_are_no_differences():
    records = {"norm=batch": {0: node_record(90.0)}}
    text = render_table(TABLES["node_arms"], [make_panel(records, seeds=[0])], describe)
    assert "- Diff: none, `baseline` is not in params.yaml." in text.splitlines()
    both = {"baseline": {0: node_record(90.0)}, **records}
    assert "Diff: none" not in render_table(TABLES["node_arms"], [make_panel(both, seeds=[0])], describe)


def test_arms_of_two_grids_have_seeds_of_their_own():
    records = {"baseline": {0: node_record(90.0)}, "norm=batch": {seed: node_record(90.0) for seed in (5, 6)}}
    panel = make_panel(records, seeds={"baseline": [0, 1], "norm=batch": [5, 6]})
    text = render_table(TABLES["node_arms"], [panel], describe)
    assert [cells(text, label)[2:5] for label in ("Baseline", "norm=batch")] == [
        ["1 of 2", "90.00", "—"], ["2", "90.00 ± 0.00", "—"],
    ]  # fmt: skip


def test_a_heading_is_text_in_markdown():
    table = TABLES["table1"]
    columns = [table.columns[0].model_copy(update={"label": "a|b <i>"})]
    text = render_table(table.model_copy(update={"title": "<b> T", "columns": columns}), [make_panel({})], describe)
    assert text.startswith("## &lt;b&gt; T\n")
    assert "a\\|b &lt;i&gt;" in text


def test_the_tidy_table_has_each_number_exactly():
    record = ddpm_record(5.0, 5.2)
    records = {"position=mlp": {1: record}, "baseline": {0: failure()}}
    rows = list(csv.DictReader(io.StringIO(render_csv({"ddpm": [make_panel(records)]}))))
    assert {row["arm"] for row in rows} == {"position=mlp"}
    found = {(row["seed"], row["set"], row["key"]): row["value"] for row in rows}
    assert len(found) == len(rows)
    assert float(found["1", "", "fid"]) == record.fid
    assert (found["1", "1", "fid"], found["1", "0", "kid"]) == ("5.2", repr(5.0 / 1000))
    assert float(found["1", "", "num_params"]) == 100


# ---- Records of other settings ---------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A project in which every run that params.yaml asks for has a record of its settings."""
    copy_settings(tmp_path)
    project = load_project(tmp_path)
    for run in project.runs():
        settings = project.settings(run)
        record = make_record(run.study).model_copy(update={"settings": settings})
        write_record(record_path(tmp_path, run.study, run.case, run.arm, run.seed), record)
    return tmp_path


def print_all(root: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_tables(root, [], console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "study", "says"),
    [
        ("specs/node/study.yaml", "epochs: 9", "epochs: 16", "node", "training.epochs was 9, is 16"),
        ("specs/node/study.yaml", "rtol: 1.0e-3", "rtol: 1.0e-4", "node", "network.rtol was 0.001, is 0.0001"),
        ("specs/ddpm/study.yaml", "images: 400", "images: 500", "ddpm", "sampling.images was 400, is 500"),
        ("specs/data.yaml", "features: 64", "features: 32", "ddpm", "extractor.features was 64, is 32"),
        (
            "specs/ddpm/study.yaml",
            "kid_subset_size: 200",
            "kid_subset_size: 100",
            "ddpm",
            "kid_subset_size was 200, is 100",
        ),
        (
            "params.yaml",
            "precision: float32",
            "precision: bfloat16",
            "node",
            "compute.precision was float32, is bfloat16",
        ),
    ],
)
def test_a_record_of_other_settings_is_called_outdated(
    recorded: Path, file: str, old: str, new: str, study: str, says: str
):
    assert "nothing is missing" in print_all(recorded)
    edit(recorded / file, old, new)
    project = load_project(recorded)
    panel = read_panel(recorded, project, study, "digits")
    wanted = panel.seeds["baseline"]
    seeds = ", ".join(map(str, wanted))
    assert count_runs(panel, "baseline") == f"{len(wanted)}, {len(wanted)} outdated"
    (line,) = list_outdated(panel, ["baseline"])
    assert line.startswith(f"outdated: `baseline`, seed {seeds}: ")
    assert line.endswith(says)
    printed = print_all(recorded)
    assert "nothing is missing" not in printed
    assert says in printed
    table = project.tables["table1" if study == "node" else "table3"]
    grid = lay_out(table, [panel], lambda case: [])
    assert grid.blocks[0].rows[0].status == "outdated"
    assert grid.blocks[0].rows[0].cells[0].summary is not None
    assert f"outdated: `baseline`, seed {seeds}" in render_grid(grid)


def test_what_one_arm_overrides_is_outdated_in_the_others_alone(recorded: Path):
    edit(recorded / "specs/node/study.yaml", "weight_std: null", "weight_std: 0.5")
    panel = read_panel(recorded, load_project(recorded), "node", "digits")
    assert "baseline" in panel.changes
    assert "weight_std=1.0" not in panel.changes


def test_a_field_that_a_record_does_not_know_yet_changes_nothing(recorded: Path):
    path = record_path(recorded, "node", "digits", "baseline", 0)
    edit(path, '    "network.atol": 0.001,\n', "")
    assert not read_panel(recorded, load_project(recorded), "node", "digits").changes
