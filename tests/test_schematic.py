"""The diagrams of the remedies, from outlines made by hand: what they mark, what they say, what they draw."""

import re
from pathlib import Path

import pytest
from architectures import BIAS, CHANNEL, CONVOLUTION, POSITION, TINY, change, make_architecture, make_design

from pipeline.report.glyphs import HEIGHT, WIDTH, draw_glyph
from pipeline.report.schematic import Diagram, Row, draw_schematics, show_flops
from pipeline.report.sections import gather
from pipeline.report.sources import read_sources
from pipeline.report.webpage import show_math, show_name
from pipeline.schema.architecture import PATH, Architecture, Branch, Design, Networks
from pipeline.schema.base import SpecError
from pipeline.schema.document import write_document
from pipeline.schema.project import Project

ROOT = Path(__file__).resolve().parent.parent


def draw(*designs: Design) -> list[Diagram]:
    networks = Networks(study="ddpm", case="digits", arms=[], designs=list(designs))
    (schematic,) = draw_schematics(Architecture(networks=[networks]), {("ddpm", "digits"): "digits"})
    return list(schematic.diagrams)


@pytest.fixture(scope="module")
def diagrams() -> list[Diagram]:
    (schematic,) = draw_schematics(make_architecture(), {("ddpm", "digits"): "the digits"})
    assert schematic.title == "DDPM, the digits"
    assert "first of 8 residual blocks" in schematic.place
    return list(schematic.diagrams)


def statuses(diagram: Diagram) -> list[str]:
    return [*(row.status for row in diagram.rows), diagram.norm_status]


def test_each_remedy_marks_what_it_changes_and_nothing_else(diagrams: list[Diagram]):
    assert [statuses(diagram) for diagram in diagrams] == [
        ["same", "same", "same", "absent", "same"],
        ["same", "same", "same", "added", "same"],
        ["same", "same", "changed", "absent", "same"],
        ["same", "same", "same", "absent", "changed"],
    ]


def line_of(row: Row, name: str) -> tuple[str, bool]:
    (line,) = [line for line in row.lines if line.name == name]
    return line.start, line.marked


def test_biases_say_how_they_start_and_which_start_otherwise(diagrams: list[Diagram]):
    before, after = (diagram.rows[2] for diagram in (diagrams[0], diagrams[2]))
    assert line_of(before, "site.time.bias") == ("0 at first", False)
    assert line_of(after, "site.time.bias") == ("not 0 at first", True)
    assert line_of(after, "embed.0.bias") == ("not 0 at first", True)
    assert line_of(after, "site.time.weight") == ("", False)


def test_what_two_branches_share_is_listed_once(diagrams: list[Diagram]):
    rows = diagrams[1].rows
    assert [line.name for line in rows[2].lines if line.shared] == ["embed.0.bias"]
    assert [line.name for line in rows[3].lines] == ["site.map.weight"]


def rename(branch: Branch, name: str) -> Branch:
    renamed = branch.parameters[0].model_copy(update={"name": name})
    return branch.model_copy(update={"parameters": [renamed, *branch.parameters[1:]]})


def test_another_slice_or_another_measurement_is_no_change_but_another_shape_is():
    whole = rename(CONVOLUTION, "site.conv.weight")
    measured = CHANNEL.model_copy(update={"change": change(0.9, 0.8)})
    wide = BIAS.model_copy(update={"shape": [4, 3, 3]})
    _, same, other = draw(
        make_design("none", "baseline", CONVOLUTION, BIAS, CHANNEL),
        make_design("zero_bias", "x=1", whole, BIAS, measured),
        make_design("groups", "y=1", CONVOLUTION, wide),
    )
    assert statuses(same) == ["same"] * 4
    assert not [line for row in same.rows for line in row.lines if line.marked]
    assert statuses(other) == ["same", "changed", "removed", "same"]


def test_another_way_of_v_t_is_explained():
    mlp = CHANNEL.model_copy(update={"expression": "ṽ_t = MLP(t)"})
    linear = CHANNEL.model_copy(update={"expression": "ṽ_t = t v"})
    _, drawn = draw(make_design("none", "baseline", linear), make_design("zero_bias", "time=mlp", mlp))
    assert drawn.sentence.endswith("Drawn with ṽ_t = MLP(t), as ṽ_t = t v has no bias.")


def test_what_rounding_leaves_is_zero_and_bars_are_parts_of_the_greatest(diagrams: list[Diagram]):
    baseline, position = diagrams[0].effects, diagrams[1].effects
    assert [effect.symbol for effect in baseline] == ["ṽ_t"]
    assert baseline[0].cells == [("0.25", "0.20–0.30", pytest.approx(0.25 / 0.4)), ("0", f"{TINY:.0e}", 0.0)]
    assert [effect.symbol for effect in position] == ["ṽ_t", "p̃_t", "all"]
    assert position[1].cells[1][2] == 1.0


def test_a_network_that_does_not_know_t_is_drawn_too():
    still = {"built": [0.0], "by_channel": [0.0]}
    (drawn,) = draw(make_design("none", "baseline", CONVOLUTION, BIAS, change=still))
    assert [row.kind for row in drawn.rows] == ["convolution", "bias"]
    assert [(effect.symbol, effect.cells[0][0]) for effect in drawn.effects] == [("all", "0")]


def test_costs_are_told_beside_the_baselines(diagrams: list[Diagram]):
    assert diagrams[0].costs == [("parameters", "1,000", ""), ("U-Net, one image", "5 kFLOP", "")]
    assert diagrams[1].costs == [
        ("parameters", "1,100", "+100 (+10.00%)"), ("U-Net, one image", "5.1 kFLOP", "+100 (+2.00%)"),
    ]  # fmt: skip
    assert diagrams[3].costs[0] == ("parameters", "1,000", "as the baseline")
    assert [show_flops(flops) for flops in (12, 331_776, 7_356_416, 11_160_256_512)] == [
        "12 FLOP", "331.8 kFLOP", "7.356 MFLOP", "11.16 GFLOP",
    ]  # fmt: skip


def test_cases_without_designs_are_left_out():
    of = make_architecture().networks[0]
    empty = of.model_copy(update={"designs": [], "study": "node"})
    again = of.model_copy(update={"case": "cifar10"})
    titles = {("ddpm", "digits"): "a", ("ddpm", "cifar10"): "b"}
    drawn = draw_schematics(Architecture(networks=[empty, of, again]), titles)
    assert [(one.study, one.case) for one in drawn] == [("ddpm", "digits"), ("ddpm", "cifar10")]


@pytest.mark.parametrize(("axes", "faces"), [("chw", 16 + 24 + 24), ("c", 1 + 6 + 6), ("hw", 16 + 4 + 4), ("", 3)])
def test_a_glyph_has_a_face_for_each_visible_cell_within_its_picture(axes: str, faces: int):
    glyph = draw_glyph(axes)
    assert len(glyph) == len({points for points, _ in glyph}) == faces
    places = [tuple(map(float, place.split(","))) for points, _ in glyph for place in points.split()]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert len({opacity for _, opacity in glyph}) == (1 if not axes else 3)


def test_symbols_and_names_are_escaped():
    assert show_math("<b> ṽ_t") == "&lt;b&gt; ṽ<sub>t</sub>"
    assert show_name("<b>.conv[:, 1:]") == "&lt;b&gt;.<wbr>conv<wbr>[:,&nbsp;1:]"


def test_a_missing_or_foreign_file_is_one_line(tmp_path: Path, project: Project):
    sources = read_sources(tmp_path, project)
    with pytest.raises(SpecError, match=re.escape(f"{PATH}: the file is missing")):
        gather(sources)
    write_document(tmp_path / PATH, make_architecture(case="mnist"))
    with pytest.raises(SpecError, match=r"ddpm has no case 'mnist'; run `dvc repro`"):
        gather(sources)


def test_an_added_branch_is_compared_with_nothing(diagrams: list[Diagram]):
    assert not [line for line in diagrams[1].rows[3].lines if line.marked]
    assert diagrams[1].rows[3].branch == POSITION
