"""The web page from contents made by hand: text stays text, nothing is hidden, the same bytes."""

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from architectures import make_architecture
from panels import ddpm_record, failure, make_panel, node_record
from workspace import Workspace, make_reduced

from pipeline.data.preview import write_empty_preview, write_trajectory
from pipeline.report.charts import draw_awareness, draw_snapshots, draw_sweep
from pipeline.report.claims import judge_claims
from pipeline.report.grid import Block, Cell, Grid, GridRow, Heading
from pipeline.report.schematic import draw_schematics
from pipeline.report.sections import gather
from pipeline.report.sweeps import find_points
from pipeline.report.webpage import Contents, Drawing, Sample, Section, convert, render_static, render_webpage
from pipeline.schema.architecture import PATH as ARCHITECTURE
from pipeline.schema.document import write_document
from pipeline.schema.ledger import Entry, ledger_path, write_ledger
from pipeline.schema.project import Project, load_project
from pipeline.schema.record import write_record
from stages.report import SECTIONS

HOSTILE = "</script><img src=x onerror=alert(1)> \"quoted\" 'single' & 日本 " + "long" * 500


class _Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def links(self) -> Iterator[str]:
        for _, attributes in self.tags:
            yield from (value for key, value in attributes.items() if key in ("src", "href") and value is not None)


def make_contents(project: Project, hostile: str = "a label") -> Contents:
    records = {
        "baseline": {0: node_record(90.0), 1: node_record(92.0)},
        "norm=batch": {0: node_record(91.0), 1: failure()},
    }
    panel = make_panel(records)
    row = GridRow(hostile, "norm=batch", "1", "completed", [Cell(hostile)])
    block = Block("digits", hostile, "embedded", [Heading(hostile, "accuracy")], [row], [hostile], [hostile])
    chart = draw_awareness(panel)
    assert chart is not None
    chart["data"]["values"][0]["arm"] = hostile
    drawing = Drawing("chart-one", hostile, chart, render_static(chart))
    section = Section("one", hostile, hostile, Grid(hostile, hostile, [block], [hostile]), [drawing], [hostile])
    runs = [
        (project.resolve("node", "digits", "baseline", 0), node_record(90.0)),
        (project.resolve("node", "digits", "baseline", 1), failure().model_copy(update={"reason": hostile})),
        (project.resolve("node", "digits", "norm=batch", 0), None),
    ]
    sample = Sample("digits", hostile, 0, b"png", "")
    schematics = draw_schematics(make_architecture(made=hostile, arm=hostile[:200]), {"digits": hostile})
    claimed = judge_claims(project, [{"node": panel}])
    return Contents(project.claims, claimed, [section], [sample], runs, {}, schematics=schematics)


def test_whatever_a_label_has_in_it_is_text(project: Project):
    page = _Page(render_webpage(make_contents(project, HOSTILE)))
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert (
        page.text.count("</script><img src=x onerror=alert(1)>") >= 8 + 6
    )  # those of the remedies: a title, an arm, four convolutions
    assert "日本" in page.text


def test_markdown_brings_no_html_and_no_script():
    assert "<b>" not in convert("<b>bold</b>")
    assert "href" not in convert("[link](javascript:alert(1))")


def test_nothing_is_fetched_and_nothing_may_be(project: Project):
    html = render_webpage(make_contents(project))
    for link in _Page(html).links():
        assert re.match(r"#|data:image/|[a-z_0-9]+\.(md|html)$|README\.md$", link), link
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'" in html
    assert "unsafe-eval" not in html


def test_missing_and_failed_runs_are_listed(project: Project):
    text = " ".join(_Page(render_webpage(make_contents(project))).text.split())
    assert "3 runs are asked for by params.yaml: 1 completed, 1 failed, 1 missing" in text
    assert "node digits norm=batch seed 0: missing" in text
    assert "node digits baseline seed 1: failed, epoch 2: a label" in text
    assert "The embedded default, not the paper’s scale." in text


def test_a_verdict_stands_beside_a_comparison_that_gave_it(project: Project):
    """Claim c6: sigmoid has its 14 evaluations, the baseline not its 26."""
    records = {"activation=sigmoid": 14.0, "baseline": 20.0}
    panel = make_panel({arm: {seed: node_record(90.0, nfe) for seed in (0, 1)} for arm, nfe in records.items()})
    (judged,) = judge_claims(replace(project, claim_seeds=2), [{"node": panel}])
    contents = replace(make_contents(project), pages=[judged])
    shown = " ".join(_Page(render_webpage(contents)).text.split())
    assert [outcome.verdict for outcome in judged.judged["c6"].outcomes] == ["holds", "fails"]
    assert re.search(r"c6 Sigmoid needs .{,80} fails on digits nfe: baseline = 26\.0: -6\.0, ", shown)


def test_the_same_contents_give_the_same_bytes(project: Project):
    assert render_webpage(make_contents(project)) == render_webpage(make_contents(project))


def test_a_run_shows_its_resolved_configuration(project: Project):
    text = _Page(render_webpage(make_contents(project))).text
    run = project.resolve("node", "digits", "norm=batch", 0)
    assert re.search(rf'"learning_rate": {run.training.learning_rate}\b', text)
    assert '"norm": "batch"' in text


def test_the_remedies_are_drawn_as_text_with_names_shapes_and_what_changed(project: Project):
    page = _Page(render_webpage(make_contents(project)))
    text = " ".join(page.text.split())
    assert ("a", {"href": "#remedies"}) in page.tags
    for shown in ("site.conv.weight[:, 1:] 144", "4 × 1 × 1", "1 × 3 × 3", "GroupNorm, G = 2", "position=mlp"):
        assert shown in text
    assert page.tags.count(("strong", {"class": "badge"})) == 3
    assert text.count("no p̃t") == 3
    shapes = {attributes["id"] for tag, attributes in page.tags if tag == "symbol"}
    assert {attributes["href"] for tag, attributes in page.tags if tag == "use"} == {f"#{shape}" for shape in shapes}
    assert not [tag for tag, attributes in page.tags if tag == "svg" and attributes.get("aria-hidden") != "true"]


def test_without_designs_there_is_no_section_of_remedies(project: Project):
    contents = replace(make_contents(project), schematics=[])
    assert 'id="remedies"' not in render_webpage(contents)


def test_a_figures_marks_say_arm_seed_and_value_and_its_legend_hides(project: Project):
    arms = ["baseline", "groups=1", "groups=1,channels=16", "channels=16"]
    panel = make_panel({arm: {seed: node_record(90.0 + seed) for seed in range(2)} for arm in arms})
    figure = project.figures["figure7"]
    chart = draw_sweep(figure, panel, find_points(project, "digits", panel.arms, figure.x.field, figure.series))
    seeds = next(layer for layer in chart["layer"] if "seed" in layer["data"]["values"][0])
    assert [entry["field"] for entry in seeds["encoding"]["tooltip"]] == ["arm", "value", "seed", "x"]
    assert seeds["data"]["values"][0]["arm"] == "groups=1,channels=16"
    bound = [layer for layer in chart["layer"] if "params" in layer]
    assert [layer["params"][0]["bind"] for layer in bound] == ["legend"]


def test_charts_show_every_completed_run_and_none_else():
    panel = make_panel({"baseline": {0: ddpm_record(5.0, 6.0), 1: failure()}, "position=mlp": {}})
    snapshots = draw_snapshots(panel)
    assert snapshots is not None
    assert [(row["arm"], row["seed"], row["step"], row["value"]) for row in snapshots["data"]["values"]] == [
        ("baseline", 0, 250, 2.0), ("baseline", 0, 500, 5.0),
    ]  # fmt: skip
    assert draw_snapshots(make_panel({"baseline": {}})) is None
    assert draw_awareness(make_panel({"baseline": {0: failure()}})) is None


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A project without a record, and what the page takes from other stages."""
    workspace = make_reduced(tmp_path / "project")
    (workspace.root / "reports").mkdir()
    write_document(workspace.root / ARCHITECTURE, make_architecture())
    for name in ("theory", "level_awareness"):
        (workspace.root / "reports" / f"{name}.md").write_text("## Title\n\ntext\n")
    return workspace


def test_trajectories_say_what_their_rows_and_columns_are(workspace: Workspace):
    images = np.zeros((2, 1, 1, 8, 8), np.uint8)
    for kind in ("previews", "trajectories"):
        pictures = workspace.root / "reports" / kind / "ddpm/digits"
        write_empty_preview(pictures / "baseline" / "0.png")
        arrays = {"x": images, "x0": images, "levels": np.array([987, -1])}
        write_trajectory(pictures / "position=mlp" / "0.png", arrays)
    page = _Page(render_webpage(gather(workspace.root, load_project(workspace.root))))
    shown = [attributes for tag, attributes in page.tags if tag == "img" and "From noise" in (attributes["alt"] or "")]
    assert [attributes["alt"] for attributes in shown] == [
        "From noise to image: digits, arm baseline, seed 0; none, its training failed",
        "From noise to image: digits, arm position=mlp, seed 0; columns: levels 987, image; "
        "rows: each image as it is, then as foreseen",
    ]
    png = (pictures / "position=mlp" / "0.png").read_bytes()
    assert shown[1]["src"] == f"data:image/png;base64,{base64.b64encode(png).decode()}"
    text = " ".join(page.text.split())
    assert "digits, position=mlp, seed 0, not the paper's scale; columns: levels 987, image" in text
    assert text.index("digits, position=mlp, seed 0") < text.index("From noise to image") < text.index("Every run")


def test_tables_and_figures_whose_runs_were_made_in_different_places_say_so(workspace: Workspace):
    entries = [
        Entry(arm=arm, seed=0, step="train", output="0" * 32, seconds=1.0, device=device, threads=1)
        for arm, device in (("baseline", "H200"), ("norm=batch", "cpu, EPYC"))
    ]
    write_ledger(ledger_path(workspace.root, "node", "digits"), entries)
    project = load_project(workspace.root)
    told = "**Mixed:** runs of node, digits, were not made with the same device: H200; cpu, EPYC."
    marked = {section.id for section in gather(workspace.root, project).sections if told in section.notes}
    assert marked == {"table1", "table2", "table4", "figure6", "figure7", "node_arms"}
    for name in SECTIONS:
        (workspace.root / "reports" / f"{name}.md").write_text("")
    workspace.run("python", "-m", "stages.report")
    assert f"> {told}" in (workspace.root / "reports/README.md").read_text()


def test_a_partial_state_says_what_is_missing(workspace: Workspace):
    write_record(workspace.root / "records/node/digits/baseline/0.json", node_record(90.0))
    text = _Page(render_webpage(gather(workspace.root, load_project(workspace.root)))).text
    assert "What is missing" in text
    assert re.search(r"node, .*: missing: norm=batch, seed 0", text)
    assert re.search(r"ddpm, .*: missing: position=mlp, seed 0", text)
