"""The page on the diffusion models' level-awareness, from records made by hand."""

import pytest
from panels import cells, ddpm_record, failure, make_awareness, make_panel

from pipeline.report.panel import Panel
from pipeline.report.views import render_text
from pipeline.schema.project import Project
from pipeline.studies.ddpm.awareness_text import name_blocks


def render(project: Project, *panels: Panel) -> str:
    return render_text("level_awareness", project, panels)


def test_blocks_are_named_in_the_order_of_the_records(project: Project):
    assert name_blocks(project.baseline("ddpm", "digits")) == [
        "down 8x8, 1", "down 4x4, 1", "middle 4x4, 1", "middle 4x4, 2", "up 4x4, 1", "up 4x4, 2", "up 8x8, 1",
        "up 8x8, 2",
    ]  # fmt: skip
    paper = name_blocks(project.baseline("ddpm", "cifar10"))
    assert (len(paper), paper[0], paper[7], paper[21]) == (22, "down 32x32, 1", "down 4x4, 2", "up 32x32, 3")


def test_names_agree_with_the_blocks_of_the_network(project: Project):
    from pipeline.studies.ddpm.unet import ResidualBlock, make_unet

    run = project.baseline("ddpm", "digits")
    network = make_unet(run, 1)
    blocks = [part for part in network.modules() if isinstance(part, ResidualBlock)]
    assert len(blocks) == len(name_blocks(run))


def test_each_arm_shows_its_mean_its_range_and_each_block_from_first_to_last(project: Project):
    panel = make_panel({"position=mlp": {0: failure()}, "baseline": {0: ddpm_record(3.0)}, "groups=1": {}}, seeds=[0])
    text = render(project, panel)
    assert cells(text, "1 ") == [
        "1", "`baseline`", "1", "0.200", "0.000 to 0.600", "0.400", "0.000 to 1.200", "0.010", "0.020",
    ]  # fmt: skip
    assert cells(text, "2 ") == ["2", "`position=mlp`", "0 of 1, 1 failed", "failed", *["—"] * 5]
    assert cells(text, "3 ") == ["3", "`groups=1`", "0 of 1", "missing", *["—"] * 5]
    assert cells(text, "Block") == ["Block", "#1"]
    assert cells(text, "down 4x4, 1")[1:] == ["0.200 → 0.400"]
    assert cells(text, "up 8x8, 1")[1:] == ["0.000 → 0.000"]
    assert cells(text, "up 8x8, 2")[1:] == ["1e-07 → 2e-07"]
    assert "9.000" not in text  # the levels before the last
    assert "- from level 0 to level 999; trained: after 500 steps." in text
    assert "- failed: `position=mlp`, seed 0, after 30 steps" in text
    assert "- missing: `groups=1`, seed 0." in text
    assert "not the paper's scale" in text


def test_seeds_are_averaged_and_counted(project: Project):
    second = make_awareness([0.3] * 8)
    records = {0: ddpm_record(3.0), 1: ddpm_record(3.0, initial=second, trained=second, change_initial=0.4)}
    text = render(project, make_panel({"baseline": records}, seeds=range(3)))
    assert cells(text, "1 ")[2:5] == ["2 of 3", "0.300 ± 0.141", "0.150 to 0.450"]
    assert cells(text, "down 8x8, 1")[1:] == ["0.200 → 0.250"]


def test_imported_weights_have_no_first_step_and_a_null_is_a_dash(project: Project):
    imported = {"initial": None, "change_initial": None, "share_initial": None}
    record = ddpm_record(3.0, trained=make_awareness([None, *[0.5] * 7]), **imported)
    text = render(project, make_panel({"baseline": {0: record}}, seeds=[0]))
    assert cells(text, "1 ")[3:] == ["—", "—", "0.400", "0.500 to 0.500", "—", "0.020"]
    assert cells(text, "down 8x8, 1")[1:] == ["— → —"]
    assert cells(text, "up 8x8, 2")[1:] == ["— → 0.500"]


def test_arms_of_another_architecture_have_a_table_of_their_own(project: Project):
    small = make_awareness([0.7] * 12)
    records = {"baseline": {0: ddpm_record(3.0)}, "blocks=2": {0: ddpm_record(3.0, initial=small, trained=small)}}
    text = render(project, make_panel(records, seeds=[0]))
    assert [line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| Block")] == ["#1", "#2"]
    assert "down 8x8, 2" in text


def test_a_record_of_another_network_is_named(project: Project):
    record = ddpm_record(3.0, trained=make_awareness([0.5] * 7))
    with pytest.raises(ValueError, match="records/ddpm/digits/baseline: 7 blocks, but its network has 8"):
        render(project, make_panel({"baseline": {0: record}}, seeds=[0]))


def test_no_case_is_said(project: Project):
    assert "`cases.ddpm` in params.yaml is empty" in render(project)
