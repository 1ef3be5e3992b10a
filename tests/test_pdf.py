"""Figures as PDFs: their bytes, and what a reader of PDFs finds in them."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from matplotlib.font_manager import findfont
from panels import failure, make_panel, node_record
from pypdf import PageObject, PdfReader
from workspace import copy_project

from pipeline.report.panel import Panel
from pipeline.report.pdf import WIDTH, draw_pdf
from pipeline.schema.figure import Arms, Figure
from pipeline.schema.project import Project

HOSTILE = r"$x^2$ \input{/etc/passwd} %&#_~^{} <b> (1) é"


def read(figure: Figure, *panels: Panel) -> PageObject:
    (page,) = PdfReader(io.BytesIO(draw_pdf(figure, panels))).pages
    return page


def fill(arms: Sequence[str], case: str = "digits", scale: str = "embedded") -> Panel:
    return make_panel({arm: {seed: node_record(90.0 + seed) for seed in range(3)} for arm in arms}, case, scale)


def grouped(case: str = "digits") -> Panel:
    return fill(["baseline", "groups=1", "groups=2", "groups=1,channels=8"], case)


def scaled() -> Panel:
    return fill(["baseline", "weight_std=1.0", "weight_std=0.001"])


def list_texts(page: PageObject) -> list[tuple[str, float]]:
    """Pieces of text with their sizes in points."""
    found: list[tuple[str, float]] = []

    def visit(text: str, current: list[float], matrix: list[float], _: object, size: float) -> None:
        scale = abs(current[0] * current[3] - current[1] * current[2]) ** 0.5
        if text.strip():
            found.append((text.strip(), size * scale * abs(matrix[3])))

    page.extract_text(visitor_text=visit)
    return found


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_process_or_settings(tmp_path: Path):
    work = copy_project(tmp_path / "project")
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "matplotlibrc").write_text("font.size: 20\nfont.family: serif\npdf.fonttype: 3\naxes.grid: True\n")
    found = []
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        work.run("python", "-m", "stages.draw", "figure6", PYTHONHASHSEED=seed, TZ=zone, LC_ALL="C")
        found.append([(work.root / f"reports/figure6.{suffix}").read_bytes() for suffix in ("pdf", "svg", "md")])
    work.run("python", "-m", "stages.draw", "figure6", MPLCONFIGDIR=str(settings))
    assert found[0] == found[1]
    assert found[0][0] == (work.root / "reports/figure6.pdf").read_bytes()


def test_the_font_is_matplotlibs_own():
    assert "matplotlib" in findfont("DejaVu Sans")


@pytest.mark.parametrize("name", ["figure6", "figure7"])
def test_it_is_as_wide_as_a_column_whose_text_is_text_in_embedded_fonts(project: Project, name: str):
    page = read(project.figures[name], scaled() if name == "figure6" else grouped())
    assert page.mediabox.width == WIDTH == 234
    for font in page["/Resources"]["/Font"].values():  # type: ignore[index]
        assert font.get_object()["/Subtype"] == "/Type0"
        (descendant,) = font.get_object()["/DescendantFonts"]
        assert descendant.get_object()["/Subtype"] == "/CIDFontType2"
        descriptor = descendant.get_object()["/FontDescriptor"].get_object()
        assert 1000 < len(descriptor["/FontFile2"].get_object().get_data()) < 100_000
    texts = list_texts(page)
    assert min(size for _, size in texts) >= 8
    assert {project.figures[name].y.label, project.figures[name].x.label} <= {text for text, _ in texts}
    assert not page.images


def test_series_scale_and_default_are_named(project: Project):
    sizes = read(project.figures["figure6"], scaled()).extract_text().split("\n")
    groups = read(project.figures["figure7"], grouped()).extract_text().split("\n")
    assert {"PyTorch's default", "10⁻³ 10⁻² 10⁻¹ 10⁰"} <= set(sizes)
    assert {"channels", "8 16", "the embedded default, not the paper's scale"} <= set(groups)
    assert "PyTorch's default" not in groups


def test_series_differ_without_colour_too(project: Project):
    """By the dashes of their lines and the shapes of their marks."""
    page = read(project.figures["figure7"], grouped())
    drawn = page.get_contents().get_data()  # type: ignore[union-attr]
    assert len(set(re.findall(rb"\[([\d. ]+)\] \S+ d\b", drawn))) == 2
    marks = page["/Resources"]["/XObject"].values()  # type: ignore[index]
    assert {len(re.findall(rb"\bc\b", mark.get_object().get_data())) > 0 for mark in marks} == {True, False}  # curves


def test_cases_stand_one_below_the_other(project: Project):
    figure = project.figures["figure7"]
    one, two = read(figure, grouped()), read(figure, grouped(), grouped("cifar10"))
    assert (two.mediabox.width, two.mediabox.height) == (one.mediabox.width, 2 * one.mediabox.height)
    assert {"digits", "cifar10"} <= {text for text, _ in list_texts(two)}


def test_labels_are_text_whatever_is_in_them(project: Project):
    figure = project.figures["figure7"]
    y = figure.y.model_copy(update={"label": HOSTILE})
    page = read(figure.model_copy(update={"y": y, "title": HOSTILE}), grouped())
    assert HOSTILE in {text for text, _ in list_texts(page)}


def test_without_records_or_cases_it_says_so(project: Project):
    figure = project.figures["figure7"]
    assert "no completed run" in read(figure, make_panel({"baseline": {0: failure()}})).extract_text()
    assert "no completed run" in read(figure, make_panel({"norm=batch": {}})).extract_text()
    assert "`cases.node` in params.yaml is empty" in read(figure).extract_text()


def test_a_row_an_arm_has_its_label_whole_its_heading_and_the_figures_line(project: Project):
    rows = [
        {"arm": "baseline", "label": "a baseline with a label too long for a line", "group": "Heading"},
        {"arm": "groups=1", "label": "one group"},
        {"arm": "groups=8", "label": "eight groups"},
    ]
    x = {"key": "accuracy", "label": "accuracy", "digits": 1, "scale": "log"}
    fields = {"title": "t", "caption": "", "kind": "arms", "study": "node", "line": {"value": 50.0, "label": "chance"}}
    figure = Arms.model_validate({**fields, "rows": rows, "x": x})
    panel = make_panel(
        {
            "baseline": {seed: node_record(90.0 + seed) for seed in range(3)},
            "groups=1": {0: node_record(70.0)},
            "groups=8": {0: failure(), 1: failure()},
        }
    )
    page = read(figure, panel)
    texts = {text for text, _ in list_texts(page)}
    assert {"a baseline with a label", "too long for a line", "Heading", "one group", "chance", "failed"} <= texts
    assert min(size for _, size in list_texts(page)) >= 8
    assert page.mediabox.width == WIDTH
    assert draw_pdf(figure, [panel]) == draw_pdf(figure, [panel])
