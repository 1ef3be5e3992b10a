"""Figures from records made by hand."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from panels import cells, failure, make_panel, node_record

from pipeline.report.figures import draw_figure, render_figure, render_svg
from pipeline.report.panel import Panel
from pipeline.report.sweeps import Point, find_points
from pipeline.schema.project import Project


def wide(case: str = "digits", scale: str = "embedded") -> Panel:
    """A sweep over the initial scale; one run of the widest has failed and one is missing."""
    accuracy = {"baseline": 95.0, "weight_std=1.0": 94.0, "weight_std=100.0": 90.0, "norm=batch": 1.0}
    records: dict[str, dict[int, Any]] = {
        arm: {seed: node_record(value + seed) for seed in range(3)} for arm, value in accuracy.items()
    }
    records["weight_std=100.0"][1] = failure()
    del records["weight_std=100.0"][2]
    return make_panel(records, case, scale, seeds=range(3))


def grouped() -> Panel:
    arms = ["baseline", "groups=1", "groups=1,channels=8", "channels=8", "groups=16"]
    return make_panel({arm: {seed: node_record(90.0 + seed) for seed in range(2)} for arm in arms})


def sweep(project: Project, name: str, panels: Sequence[Panel]) -> dict[str, Sequence[Point]]:
    figure = project.figures[name]
    return {panel.case: find_points(panel, figure.x.field, figure.series) for panel in panels}


def draw(project: Project, name: str, *panels: Panel) -> dict[str, Any]:
    return draw_figure(project.figures[name], panels, sweep(project, name, panels))


def render(project: Project, name: str, *panels: Panel) -> str:
    return render_figure(project.figures[name], name, panels, sweep(project, name, panels))


def test_the_points_are_means_bands_and_seeds(project: Project):
    layers = draw(project, "figure6", wide())["concat"][0]["layer"]
    band, seeds = layers[0]["data"]["values"], layers[1]["data"]["values"]
    assert [row["x"] for row in band] == pytest.approx([1 / (27 * 17) ** 0.5, 1.0, 100.0])
    assert [(row["low"], row["mean"], row["high"]) for row in band] == [
        (95.0, 96.0, 97.0), (94.0, 95.0, 96.0), (90.0, 90.0, 90.0),
    ]  # fmt: skip
    assert [row["default"] for row in band] == [True, False, False]
    assert [row["value"] for row in seeds] == [95.0, 96.0, 97.0, 94.0, 95.0, 96.0, 90.0]


def test_each_width_is_a_line_with_a_tick_at_each_number_of_groups(project: Project):
    layers = draw(project, "figure7", grouped())["concat"][0]["layer"]
    rows = layers[0]["data"]["values"]
    assert [(row["series"], row["x"]) for row in rows] == [("8", 1), ("8", 4), ("16", 1), ("16", 4), ("16", 16)]
    encoding = layers[0]["encoding"]
    assert encoding["x"]["axis"]["values"] == [1, 4, 16]
    assert encoding["x"]["scale"]["base"] == 2
    assert encoding["color"]["scale"]["domain"] == ["8", "16"]


@pytest.mark.parametrize("name", ["figure6", "figure7"])
def test_the_picture_is_the_same_bytes_each_time_and_fetches_nothing(project: Project, name: str):
    panels = [wide(), wide("cifar10", "paper")]
    svg = render_svg(draw(project, name, *panels))
    assert svg == render_svg(draw(project, name, *panels))
    links = set(re.findall(r"https?://[^\"\s<)]*|url\([^)]*\)|@import|<script|<image", svg))
    assert links <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "test accuracy (%)" in svg
    assert 'fill="white"' in svg
    assert svg.count(">the embedded default, not the paper's scale<") == 1


def test_the_picture_says_what_pytorchs_default_is(project: Project):
    assert "PyTorch's default" in render_svg(draw(project, "figure6", wide()))
    assert "PyTorch's default" not in render_svg(draw(project, "figure7", grouped()))


def test_the_same_values_stand_below_with_what_is_missing(project: Project):
    text = render(project, "figure6", wide())
    assert "![Figure 6: initial scale of the convolution weights (NODE)](<figure6.svg>)" in text
    assert cells(text, "`baseline`") == ["`baseline`", "0.04668 (default)", "3", "96.00 ± 1.00"]
    assert cells(text, "`weight_std=100.0`") == ["`weight_std=100.0`", "100", "1 of 3, 1 failed", "90.00"]
    lines = text.splitlines()
    assert (
        "- failed: `weight_std=100.0`, seed 1, after 30 steps, in epoch 2: the solver took more than 1000 steps."
        in lines
    )
    assert "- missing: `weight_std=100.0`, seed 2." in lines
    assert "norm=batch" not in text
    assert "not the paper's scale" in text
    assert "not the paper's scale" not in render(project, "figure6", wide("cifar10", "paper"))


def test_a_figure_without_records_or_without_a_sweep_is_drawn_and_says_so(project: Project):
    empty = make_panel({"baseline": {}, "groups=1": {0: failure(), 1: failure()}})
    assert render_svg(draw(project, "figure7", empty)).startswith("<svg")
    text = render(project, "figure7", empty)
    assert [cells(text, f"`{arm}`")[-1] for arm in ("groups=1", "baseline")] == ["failed", "missing"]
    alone = make_panel({"baseline": {0: node_record(90.0), 1: node_record(91.0)}})
    assert render_svg(draw(project, "figure7", alone)).startswith("<svg")
    assert "params.yaml asks for no sweep of `groups` here" in render(project, "figure7", alone)
    assert render_svg(draw(project, "figure6")).startswith("<svg")
    assert "`cases.node` in params.yaml is empty" in render(project, "figure6")


def test_any_number_that_arms_vary_can_be_an_axis_and_0_has_no_place_on_it(project: Project):
    given = project.figures["figure7"]
    figure = given.model_copy(
        update={"x": given.x.model_copy(update={"field": "dropout", "base": 10}), "series": "learning_rate"}
    )
    arms = ["baseline", "dropout=0.1", "dropout=0.5", "dropout=0.5,learning_rate=0.01", "groups=1"]
    panel = make_panel({arm: {0: node_record(90.0)} for arm in arms}, seeds=[0])
    points = find_points(panel, "dropout", "learning_rate")
    assert [(point.x, point.series) for point in points] == [(0.5, 0.01), (0.0, 0.08), (0.1, 0.08), (0.5, 0.08)]
    chart = draw_figure(figure, [panel], {"digits": points})
    assert [row["x"] for row in chart["concat"][0]["layer"][0]["data"]["values"]] == [0.5, 0.1, 0.5]
    assert chart["concat"][0]["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["0.01", "0.08"]
    assert render_svg(chart).startswith("<svg")
    text = render_figure(figure, "figure7", [panel], {"digits": points})
    assert cells(text, "`baseline`")[1:3] == ["0.08", "0 (not drawn)"]
