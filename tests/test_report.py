"""Tables and page from records made by hand."""

import pytest
from problems import ROOT

from pipeline.report.page import Preview, render_page
from pipeline.report.tables import Panel, align_table, escape_cell, render_table
from pipeline.schema.base import SpecError
from pipeline.schema.record import DdpmRecord, NodeRecord, read_record, record_path, write_record
from pipeline.schema.table import load_table


def node_record(accuracy: float, nfe: float = 26.0) -> NodeRecord:
    return NodeRecord(
        accuracy=accuracy, accuracy_last=accuracy - 1, nll=0.5, nll_last=0.6, nfe=nfe, nfe_last=nfe, best_epoch=3,
        epochs=8, images=360, num_params=100,
    )  # fmt: skip


def ddpm_record(fid: float) -> DdpmRecord:
    return DdpmRecord(
        fid=fid, inception_score=9.0, inception_score_std=0.0, images=1000, reference_images=1437, isc_splits=1,
        sampling_steps=100, training_steps=500, num_params=100, extractor="classifier-0123",
    )  # fmt: skip


def panel(records, dataset="digits", scale="embedded", arms=None, seeds=(0, 1)) -> Panel:
    return Panel(dataset, dataset, scale, list(arms or records), list(seeds), records)


def cells(markdown: str, label: str) -> list[str]:
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {label}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def describe(dataset: str) -> list[str]:
    return [f"about {dataset}"]


def test_a_table_shows_mean_spread_n_and_the_paired_difference():
    records = {
        "baseline": {0: node_record(90.0), 1: node_record(92.0)},
        "norm=batch": {0: node_record(91.0, 32.0), 1: node_record(93.0, 38.0)},
    }
    text = render_table(load_table(ROOT, "table1"), [panel(records)], describe)
    assert cells(text, "Setting") == ["Setting", "Arm", "n", "Accuracy", "Diff", "Last epoch", "NFE"]
    assert cells(text, "Baseline") == [
        "Baseline (GN)",
        "`baseline`",
        "2",
        "91.00 ± 1.41",
        "—",
        "90.00 ± 1.41",
        "26.0 ± 0.0",
    ]
    assert cells(text, "Replace")[2:5] == ["2", "92.00 ± 1.41", "+1.00 ± 0.00"]
    assert cells(text, "Replace")[6] == "35.0 ± 4.2"
    assert "not the paper's scale" in text
    assert "about digits" in text


def test_missing_runs_are_shown_as_missing():
    records = {"baseline": {0: node_record(90.0)}, "norm=batch": {}}
    text = render_table(load_table(ROOT, "table1"), [panel(records)], describe)
    assert cells(text, "Baseline")[2:4] == ["1 of 2", "90.00"]
    assert cells(text, "Replace")[2:5] == ["0 of 2", "missing", "—"]
    assert cells(text, "Inject")[2:5] == ["0", "not in params.yaml", "—"]


def test_the_papers_values_stand_beside_ours_on_cifar_only():
    records = {"baseline": {0: node_record(91.0)}, "norm=batch": {0: node_record(90.0)}}
    table = load_table(ROOT, "table1")
    digits, cifar = panel(records, seeds=[0]), panel(records, "cifar10", "paper", seeds=[0])
    text = render_table(table, [cifar], describe)
    header, row = cells(text, "Setting"), cells(text, "Replace")
    assert header[-3:] == ["paper: Accuracy", "paper: Diff", "paper: NFE"]
    assert row[-3:] == ["91.11", "-0.65", "34.6"]
    assert "not the paper's scale" not in text
    assert "5 seeds, spread not given" in text
    assert "paper:" not in render_table(table, [digits], describe)


@pytest.mark.parametrize(
    ("name", "dataset", "differences"),
    [
        ("table1", "cifar10", [-0.65, 0.04]), ("table1", "cifar100", [-1.46, 0.39]),
        ("table2", "cifar10", [-0.03, 0.15]), ("table2", "cifar100", [-0.45, 0.21]),
    ],
)  # fmt: skip
def test_the_papers_differences_are_those_of_its_rows(name: str, dataset: str, differences: list[float]):
    """The Diff columns that the paper prints, against the values that we carry over."""
    table = load_table(ROOT, name)
    assert table.paper is not None
    accuracies = [table.paper.values[dataset][row.arm]["accuracy"] for row in table.rows]  # type: ignore[union-attr]
    assert [round(value - accuracies[0], 2) for value in accuracies[1:]] == differences


def test_records_of_different_protocols_are_not_passed_off_as_one():
    records = {"baseline": {0: ddpm_record(17.5), 1: ddpm_record(17.0).model_copy(update={"training_steps": 9})}}
    text = render_table(load_table(ROOT, "table3"), [panel(records)], describe)
    assert "(mixed: 500, 9) training steps" in text


def test_a_fid_on_digits_is_said_to_be_comparable_with_nothing_else():
    records = {"baseline": {0: ddpm_record(17.5)}}
    text = render_table(load_table(ROOT, "table3"), [panel(records, seeds=[0])], describe)
    assert cells(text, "Baseline")[3] == "17.500"
    assert "comparable with nothing else" in text
    assert "classifier-0123" in text
    assert "100 sampling steps" in text
    paper_scale = render_table(load_table(ROOT, "table3"), [panel(records, "cifar10", "paper", seeds=[0])], describe)
    assert "comparable with nothing else" not in paper_scale


def test_a_sweep_shows_up_in_the_table_of_all_arms_with_the_baseline_first():
    records = {"groups=2": {0: node_record(95.0)}, "baseline": {0: node_record(94.0)}}
    text = render_table(load_table(ROOT, "node_arms"), [panel(records, seeds=[0])], describe)
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
    path.write_text('{"accuracy": 101}')
    with pytest.raises(SpecError, match=r"3\.json: accuracy"):
        read_record(tmp_path, "node", "digits", "time=mlp,zero_bias=all", 3)


def test_the_page_warns_of_the_scale_and_shows_every_preview():
    preview = Preview("digits", "position=mlp", 0, "previews/x.png")
    page = render_page({"table1": "## Table 1\n"}, [preview], embedded=True)
    assert "not the paper's scale" in page
    assert "## Table 1" in page
    assert "(<previews/x.png>)" in page
    assert "not the paper's scale" not in render_page({}, [], embedded=False)
