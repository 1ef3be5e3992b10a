"""Figures from records made by hand."""

import math
import re
from typing import Any

import pytest
from panels import STUDIES, cells, failure, fill_record, make_panel, node_record
from scipy import stats

from pipeline.report.charts import draw_case
from pipeline.report.figures import draw_figure, render_figure
from pipeline.report.panel import Panel
from pipeline.report.sweeps import find_points
from pipeline.report.vega import render_svg
from pipeline.schema.base import SpecError
from pipeline.schema.figure import Arms, Sweep
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


def draw(project: Project, name: str, *panels: Panel) -> dict[str, Any]:
    return draw_figure(project.figures[name], panels)


def render(project: Project, name: str, *panels: Panel) -> str:
    return render_figure(project.figures[name], name, panels)


def make_sweep(**fields: Any) -> Sweep:
    """Loss over the number of groups, on linear axes."""
    x, y = {"field": "groups", "label": "G", "base": None}, {"key": "nll", "label": "loss", "digits": 2}
    given = {"title": "t", "caption": "", "study": "node", "x": x, "y": y, "series": None, **fields}
    return Sweep.model_validate(given)


def make_arms(rows: list[dict[str, str]], **fields: Any) -> Arms:
    """Loss arm by arm, on a linear axis."""
    x = {"key": "nll", "label": "loss", "digits": 2}
    given = {"title": "t", "caption": "", "study": "node", "kind": "arms", "rows": rows, "x": x, **fields}
    return Arms.model_validate(given)


def with_losses(**arms: list[float]) -> Panel:
    """Arms `groups=G` of these losses, a seed each; `g1=[..]` is of one group, `g4` the baseline."""
    names = {f"g{groups}": f"groups={groups}" for groups in (1, 2, 8)} | {"g4": "baseline"}
    found = {
        names[arm]: {seed: node_record(90.0, nll=loss) for seed, loss in enumerate(losses)}
        for arm, losses in arms.items()
    }
    return make_panel(found, seeds=range(3))


def list_layers(figure: Any, panel: Panel) -> list[dict[str, Any]]:
    (chart,) = draw_figure(figure, [panel])["concat"]
    assert render_svg(chart).startswith("<svg")
    layers: list[dict[str, Any]] = chart["layer"]
    return layers


def test_the_points_are_means_bars_and_seeds(project: Project):
    layers = draw(project, "figure6", wide())["concat"][0]["layer"]
    bars, seeds, line, _, default, *_ = (layer["data"]["values"] for layer in layers)
    assert [(row["x"], row["low"], row["mean"], row["high"]) for row in bars] == [(1.0, 94.0, 95.0, 96.0)]
    assert [(row["x"], row["mean"]) for row in line] == [(1.0, 95.0), (100.0, 90.0)]
    assert [(row["x"], row["low"], row["high"]) for row in default] == [(pytest.approx(459**-0.5), 95.0, 97.0)]
    assert [row["value"] for row in seeds] == [95.0, 96.0, 97.0, 94.0, 95.0, 96.0, 90.0]


def test_two_seeds_have_no_bar_and_a_single_series_no_legend(project: Project):
    layers = draw(project, "figure7", grouped())["concat"][0]["layer"]
    assert [layer["mark"]["type"] for layer in layers] == ["point", "line", "point"]
    assert layers[0]["encoding"]["color"]["legend"] is not None
    assert ">channels<" in render_svg(draw(project, "figure7", grouped()))
    alone = make_panel({arm: {0: node_record(90.0)} for arm in ("baseline", "groups=1")})
    assert ">channels<" not in render_svg(draw(project, "figure7", alone))
    assert "params" not in str(draw_case(project.figures["figure7"], alone))


def test_each_width_is_a_line_with_a_tick_at_each_number_of_groups(project: Project):
    layers = draw(project, "figure7", grouped())["concat"][0]["layer"]
    rows = layers[1]["data"]["values"]
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
    chart = draw_figure(figure, [panel])
    assert [row["x"] for row in chart["concat"][0]["layer"][0]["data"]["values"]] == [0.5, 0.1, 0.5]
    assert chart["concat"][0]["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["0.01", "0.08"]
    assert render_svg(chart).startswith("<svg")
    text = render_figure(figure, "figure7", [panel])
    assert cells(text, "`baseline`")[1:3] == ["0.08", "0 (not drawn)"]
    linear = figure.model_copy(update={"x": figure.x.model_copy(update={"base": None})})
    assert [row["x"] for row in list_layers(linear, panel)[0]["data"]["values"]] == [0.5, 0.0, 0.1, 0.5]
    assert cells(render_figure(linear, "figure7", [panel]), "`baseline`")[1:3] == ["0.08", "0"]


def test_a_bar_on_a_logarithmic_axis_ends_at_a_tenth_of_the_smallest_mean_and_0_is_not_drawn():
    figure = make_sweep(y={"key": "nll", "label": "loss", "digits": 2, "scale": "log"})
    panel = with_losses(g1=[0.2, 0.02, 0.0], g2=[0.4, 0.6], g8=[0.0, 0.0])
    layers = list_layers(figure, panel)
    (bar,) = layers[0]["data"]["values"]
    mean = 0.22 / 3
    assert (bar["x"], bar["mean"], bar["low"]) == pytest.approx((1, mean, mean / 10))
    assert [row["x"] for row in layers[2]["data"]["values"]] == [1, 2]
    assert [row["value"] for row in layers[1]["data"]["values"]] == [0.2, 0.02, 0.4, 0.6]
    scale = layers[0]["encoding"]["y"]["scale"]
    assert (scale["type"], scale["domain"]) == ("log", pytest.approx([mean / 10, 0.6]))
    assert layers[0]["encoding"]["y"]["axis"]["values"] == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
    text = render_figure(figure, "name", [panel])
    assert cells(text, "`groups=8`")[-1] == "0.00 ± 0.00 (not drawn)"
    assert "a bar ends at a tenth of the smallest mean" in text


@pytest.mark.parametrize("span", [(1.1, 1.2), (1e-9, 3e5), (0.001, 1000.0), (7.0, 7.0)])
def test_a_logarithmic_axis_has_two_ticks_or_more_and_all_values(span: tuple[float, float]):
    figure = make_sweep(y={"key": "nll", "label": "loss", "digits": 2, "scale": "log"})
    y = list_layers(figure, with_losses(g1=[span[0]], g2=[span[1]]))[0]["encoding"]["y"]
    low, high = y["scale"]["domain"]
    assert low <= span[0] <= span[1] <= high
    assert low < high
    assert len(y["axis"]["values"]) >= 2
    assert all(low <= tick <= high for tick in y["axis"]["values"])


def test_a_line_stands_at_its_value_with_its_label_and_the_axis_reaches_it():
    figure = make_sweep(line={"value": 5.0, "label": "blind <b>"})
    panel = with_losses(g1=[1.0], g2=[2.0])
    rule, label = list_layers(figure, panel)[-2:]
    assert rule["data"]["values"] == label["data"]["values"] == [{"line": 5.0, "label": "blind <b>"}]
    (chart,) = draw_figure(figure, [panel])["concat"]
    svg = render_svg(chart)
    assert "blind &lt;b&gt;" in svg
    assert re.search(r">5(\.0)?</text>", svg)
    assert len(list_layers(figure, make_panel({"baseline": {}}))) == 1


def test_series_may_be_words_and_truths():
    records = {arm: {0: node_record(90.0)} for arm in ("baseline", "norm=layer", "norm=layer,groups=1", "groups=1")}
    points = find_points(make_panel(records, seeds=[0]), "groups", "norm")
    assert [(point.series, point.x) for point in points] == [("group", 1), ("group", 4), ("layer", 1), ("layer", 4)]
    panel = make_panel({arm: {0: node_record(90.0)} for arm in ("baseline", "flip=true")}, "digits", seeds=[0])
    layers = list_layers(make_sweep(series="flip"), panel)
    assert layers[0]["encoding"]["color"]["scale"]["domain"] == ["false", "true"]


def test_a_line_may_have_a_name_in_words_and_then_the_legend_needs_no_title():
    panel = make_panel({arm: {0: node_record(90.0)} for arm in ("baseline", "position=linear")}, seeds=[0])
    for names, title in (({}, "position"), ({"none": "without p_t"}, None)):
        color = list_layers(make_sweep(series="position", names=names), panel)[0]["encoding"]["color"]
        assert color["scale"]["domain"] == ["linear", names.get("none", "none")]
        assert color["legend"]["title"] == title


def test_a_sweep_may_start_from_an_arm_and_what_it_says_may_be_the_baselines():
    arms = [
        "baseline", "time=linear", "time=linear,groups=1", "time=linear,groups=2,channels=8", "groups=1",
        "time=mlp,groups=1", "norm=batch,time=linear,groups=1",
    ]  # fmt: skip
    panel = make_panel({arm: {0: node_record(90.0)} for arm in arms}, seeds=[0])
    found = find_points(panel, "groups", None, "time=linear")
    assert [point.arm for point in found] == ["time=linear,groups=1", "time=linear"]
    found = find_points(panel, "groups", "channels", "time=linear")
    assert [(point.series, point.x) for point in found] == [(8, 2), (16, 1), (16, 4)]
    assert panel.runs["baseline"].network.time == "concat"  # type: ignore[attr-defined]
    same = [find_points(panel, "groups", None, fixed) for fixed in ("baseline", "time=concat")]
    assert [point.arm for point in same[0]] == [point.arm for point in same[1]] == ["groups=1", "baseline"]


def test_a_sweep_on_a_case_with_another_run_model_reads_its_arms_as_that_model_does():
    """Only a U-Net has maps of the position; a figure of all cases finds nothing among the ODE functions."""
    fixed = "position=mlp,position_maps=network"
    arms = ["baseline", fixed, f"{fixed},groups=1", f"{fixed},groups=8", "position=mlp,groups=1", "groups=1"]
    record = fill_record(STUDIES["timetest"].record)
    panel = make_panel({arm: {0: record} for arm in arms}, "white_noise", "exact", seeds=[0])
    found = find_points(panel, "groups", None, fixed)
    assert [(point.arm, point.x) for point in found] == [(f"{fixed},groups=1", 1), (fixed, 2), (f"{fixed},groups=8", 8)]
    assert [point.x for point in find_points(panel, "groups", None)] == [1, 2]
    fields = make_panel({arm: {0: record} for arm in ("baseline", "groups=1")}, "there_and_back", "exact", seeds=[0])
    with pytest.raises(SpecError, match="unknown field 'position_maps'"):
        find_points(fields, "groups", None, fixed)
    assert [point.x for point in find_points(fields, "groups", None)] == [1, 4]


def test_a_view_shows_its_cases_alone():
    panels = [wide(), wide("cifar10", "paper")]
    figure = make_sweep(cases=["cifar10"])
    assert [chart["title"]["text"] for chart in draw_figure(figure, panels)["concat"]] == ["cifar10"]
    text = render_figure(figure, "name", panels)
    assert "### cifar10" in text
    assert "### digits" not in text
    assert "`cases.node` in params.yaml has none of cifar10" in render_figure(figure, "name", panels[:1])


ROWS = [
    {"arm": "groups=1", "label": "one", "group": "Few | many"},
    {"arm": "baseline", "label": "one"},
    {"arm": "groups=2", "label": "two", "group": "Others"},
    {"arm": "groups=8", "label": "eight"},
    {"arm": "groups=16", "label": "sixteen"},
    {"arm": "groups=32", "label": "many"},
]


def uneven() -> Panel:
    """One arm of three seeds, one of one, one that failed, one that is missing, one whose loss was not measured."""
    panel = with_losses(g1=[1.0, 2.0, 6.0], g4=[4.0])
    empty = node_record(90.0).model_copy(update={"nll": None})
    records = {**panel.records, "groups=2": dict.fromkeys(range(3), failure()), "groups=8": {}, "groups=16": {0: empty}}
    return make_panel(records, seeds=range(3))


def test_arms_have_single_seeds_mean_and_students_interval_in_the_order_of_the_file():
    absent, seeds, bars, means, *_ = list_layers(make_arms(ROWS), uneven())
    assert [row["value"] for row in seeds["data"]["values"]] == [1.0, 2.0, 6.0, 4.0]
    (bar,) = bars["data"]["values"]
    assert (bar["low"], bar["high"]) == pytest.approx(stats.t.interval(0.95, 2, 3.0, stats.sem([1.0, 2.0, 6.0])))
    assert [(row["place"], row["mean"], row["n"]) for row in means["data"]["values"]] == [(1, 3.0, 3), (2, 4.0, 1)]
    says = [(row["arm"], row["says"]) for row in absent["data"]["values"]]
    assert says == [
        ("groups=2", "failed"), ("groups=8", "missing"), ("groups=16", "no value"), ("groups=32", "not in params.yaml"),
    ]  # fmt: skip
    svg = render_svg(draw_figure(make_arms(ROWS), [uneven()]))
    labels = [found for found in re.findall(r">([^<]+)</text>", svg) if found in ("Few | many", "one", "Others", "two")]
    assert labels == ["Few | many", "one", "one", "Others", "two"]


def test_the_values_of_arms_stand_below_and_one_seed_has_no_interval():
    text = render_figure(make_arms(ROWS), "name", [uneven()])
    half = stats.t.ppf(0.975, 2) * math.sqrt(7 / 3)
    assert "| `groups=1`" in text
    assert "Few \\| many" in text
    assert cells(text, "`groups=1`")[-2:] == ["3", f"3.00 ({3 - half:.2f} to {3 + half:.2f})"]
    assert cells(text, "`baseline`")[-2:] == ["1 of 3", "4.00"]
    assert cells(text, "`groups=2`")[1:] == ["Others", "two", "0 of 3, 3 failed", "failed"]
    assert cells(text, "`groups=8`")[-1] == "missing"
    assert cells(text, "`groups=32`")[-2:] == ["0", "not in params.yaml"]
    assert "- missing: `groups=8`, seed 0, 1, 2." in text.splitlines()
    assert text.count("- failed: `groups=2`") == 3
    assert "Group" not in render_figure(make_arms(ROWS[3:]), "name", [uneven()])


def test_arms_on_a_logarithmic_axis_have_bars_that_end_above_0_without_a_tick_there():
    x = {"key": "nll", "label": "loss", "digits": 2, "scale": "log"}
    panel = with_losses(g1=[1.0, 2.0, 6.0], g4=[0.5], g2=[0.0])
    layers = list_layers(make_arms(ROWS[:3], x=x, line={"value": 1.0, "label": "blind"}), panel)
    absent, _, bars, end, means, *_ = layers
    ((low, told),) = [(row["low"], row["from"]) for row in bars["data"]["values"]]
    assert low == 0.05
    assert told == pytest.approx(stats.t.interval(0.95, 2, 3.0, stats.sem([1.0, 2.0, 6.0]))[0])  # what a tooltip says
    assert (bars["mark"]["ticks"], end["mark"], end["encoding"]["x"]["field"]) == (False, "tick", "high")
    whole = make_arms(ROWS[:3], x=x | {"scale": "linear"})
    assert [layer["mark"]["ticks"] for layer in list_layers(whole, panel) if "ticks" in layer["mark"]] == [True]
    assert [row["arm"] for row in means["data"]["values"]] == ["groups=1", "baseline"]
    assert [row["says"] for row in absent["data"]["values"]] == ["0 or less: not drawn"]


def test_on_the_page_arms_say_their_values():
    chart = draw_case(make_arms(ROWS, line={"value": 1.0, "label": "blind"}), uneven())
    shown = [[entry["field"] for entry in layer["encoding"].get("tooltip", [])] for layer in chart["layer"]]
    assert shown == [
        ["arm"], ["arm", "value", "seed"], ["arm", "mean", "from", "high", "n"], ["arm", "mean", "from", "high", "n"],
        [], [],
    ]  # fmt: skip
