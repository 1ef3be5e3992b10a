"""The web page from contents made by hand: text stays text, nothing is hidden, the same bytes."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from architectures import make_architecture
from panels import ddpm_record, failure, make_panel, node_record
from PIL import Image
from ruamel.yaml import YAML
from workspace import copy_settings

from pipeline.data.preview import write_empty_preview, write_trajectory
from pipeline.report.charts import draw_awareness, draw_case, render_static
from pipeline.report.claims import Verdict, judge_claims
from pipeline.report.grid import Block, Cell, Grid, GridRow, Heading
from pipeline.report.schematic import draw_schematics
from pipeline.report.sections import gather
from pipeline.report.sources import read_sources
from pipeline.report.vega import bundle_library
from pipeline.report.views import Drawing, Section, Views, find_views
from pipeline.report.webpage import Chapter, Contents, Sample, convert, render_webpage
from pipeline.schema.architecture import PATH as ARCHITECTURE
from pipeline.schema.document import write_document
from pipeline.schema.ledger import Entry, ledger_path, write_ledger
from pipeline.schema.project import Project, load_project
from pipeline.schema.record import write_record
from pipeline.schema.study import Story, find_study
from stages.report import main as report

HOSTILE = "</script><img src=x onerror=alert(1)> \"quoted\" 'single' & 日本 " + "long" * 500

bundle_once = cache(bundle_library)


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script of the charts, made once: it is nearly all that a page costs."""
    monkeypatch.setattr("pipeline.report.webpage.bundle_library", bundle_once)


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
    schematics = draw_schematics(make_architecture(made=hostile, arm=hostile[:200]), {("ddpm", "digits"): hostile})
    claimed = judge_claims(project, [{"node": panel}])
    headlines = {"node": "accuracy"}
    story = Story(shows=hostile, lacks=hostile)
    chapter = Chapter("node", hostile, hostile, story, project.claims["node"].claims, section)
    return Contents(claimed, [chapter], [sample], runs, headlines, {}, schematics=schematics)


@pytest.mark.slow
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
    assert "node digits norm=batch: seed 0 missing" in text
    assert "seed 1 failed, epoch 2: a label" in text
    assert "The embedded default, not the paper’s scale." in text


def test_a_verdict_stands_beside_a_comparison_that_gave_it(project: Project):
    """Claim c6: sigmoid has its 14 evaluations, the baseline not its 26."""
    records = {"activation=sigmoid": 14.0, "baseline": 20.0}
    panel = make_panel({arm: {seed: node_record(90.0, nfe) for seed in (0, 1)} for arm, nfe in records.items()})
    claims = {**project.claims, "node": project.claims["node"].model_copy(update={"seeds": 2})}
    (judged,) = judge_claims(replace(project, claims=claims), [{"node": panel}])
    contents = replace(make_contents(project), pages=[judged])
    shown = " ".join(_Page(render_webpage(contents)).text.split())
    assert [outcome.verdict for outcome in judged.judged["c6"].outcomes] == ["holds", "fails"]
    assert re.search(r"c6 Sigmoid needs .{,80} \(digits\) ?fails ?nfe ?-6\.0", shown)
    assert re.search(r"c6 ?nfe: baseline = 26\.0 ?fails.{,20}-6\.0", shown)


def test_what_does_not_hold_comes_first_among_the_claims_and_each_leads_to_its_comparisons(project: Project):
    html = render_webpage(make_contents(project))
    shown = re.findall(r'<a href="#claim-(\w+)-digits">.*?<td class="[a-z-]+">([a-z ]+)</td>', html, re.DOTALL)
    assert [name for name, _ in shown] != sorted(name for name, _ in shown)
    order: list[Verdict] = ["fails", "undecided", "too few seeds", "not run", "holds"]
    places = [order.index(verdict) for _, verdict in shown]  # type: ignore[arg-type]
    assert places == sorted(places)
    assert {name for name, _ in shown} == {
        claim.id for claim in project.claims["node"].claims if claim.covers("digits")
    }


def test_the_papers_effect_on_its_own_case_stands_beside_ours(project: Project):
    text = " ".join(_Page(render_webpage(make_contents(project))).text.split())
    printed = project.tables["table1"].paper.values["cifar10"]  # type: ignore[union-attr]
    effect = printed["norm=batch"]["accuracy"] - printed["baseline"]["accuracy"]
    assert f"{effect:+.2f} (cifar10)" in text


@pytest.mark.slow
def test_the_same_contents_give_the_same_bytes(project: Project):
    assert render_webpage(make_contents(project)) == render_webpage(make_contents(project))
    assert bundle_library() == bundle_once()


def test_the_baseline_shows_its_whole_configuration_and_other_arms_what_differs(project: Project):
    runs = [project.resolve("node", "digits", arm, seed) for arm in ("baseline", "norm=batch") for seed in (0, 1)]
    contents = replace(make_contents(project), runs=[(run, None) for run in runs])
    shown = re.findall(r"<pre [^>]*>(.*?)</pre></details>", render_webpage(contents), re.DOTALL)
    configurations = [unescape(text) for text in shown]
    assert json.loads(configurations[0]) == json.loads(runs[0].model_dump_json(exclude={"seed"}))
    assert configurations[1:] == ['as baseline, but\nnetwork.norm: "batch"']
    alone = replace(contents, runs=contents.runs[2:])
    assert '"norm": "batch"' in _Page(render_webpage(alone)).text  # without a baseline, the whole


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
    arms = ["baseline", "groups=1", "groups=1,channels=8", "channels=8"]
    panel = make_panel({arm: {seed: node_record(90.0 + seed) for seed in range(2)} for arm in arms})
    figure = project.figures["figure7"]
    chart = draw_case(figure, panel)
    seeds = next(layer for layer in chart["layer"] if "seed" in layer["data"]["values"][0])
    assert [entry["field"] for entry in seeds["encoding"]["tooltip"]] == ["arm", "value", "seed", "x"]
    assert seeds["data"]["values"][0]["arm"] == "groups=1,channels=8"
    bound = [layer for layer in chart["layer"] if "params" in layer]
    assert [layer["params"][0]["bind"] for layer in bound] == ["legend"]


def test_charts_show_every_completed_run_and_none_else(tmp_path: Path, project: Project):
    panel = make_panel({"baseline": {0: ddpm_record(5.0, 6.0), 1: failure()}, "position=mlp": {}})
    draw = find_views("ddpm").sections["snapshots"]
    (snapshots,) = draw(tmp_path, project, [panel]).drawings
    assert [(row["arm"], row["seed"], row["step"], row["value"]) for row in snapshots.chart["data"]["values"]] == [
        ("baseline", 0, 250, 2.0), ("baseline", 0, 500, 5.0),
    ]  # fmt: skip
    assert not draw(tmp_path, project, [make_panel({"baseline": {}})]).drawings
    assert draw_awareness(make_panel({"baseline": {0: failure()}})) is None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Settings with two arms a study and one seed, without a record, and what the page takes from another stage."""
    copy_settings(tmp_path)
    params = YAML().load(tmp_path / "params.yaml")
    for study, arm in {"node": "norm=batch", "ddpm": "position=mlp"}.items():
        params[study]["digits"] |= {"seeds": [0], "arms": ["baseline", arm], "more": {"seeds": [], "arms": []}}
    YAML().dump(params, tmp_path / "params.yaml")
    write_document(tmp_path / ARCHITECTURE, make_architecture())
    return tmp_path


def gather_page(root: Path) -> Contents:
    return gather(read_sources(root, load_project(root)))


@pytest.mark.slow
def test_trajectories_say_what_their_rows_and_columns_are(root: Path):
    images = np.zeros((2, 1, 1, 8, 8), np.uint8)
    for kind in ("previews", "trajectories"):
        pictures = root / "reports" / kind / "ddpm/digits"
        write_empty_preview(pictures / "baseline" / "0.png")
        arrays = {"x": images, "x0": images, "levels": np.array([987, -1])}
        write_trajectory(pictures / "position=mlp" / "0.png", arrays)
    page = _Page(render_webpage(gather_page(root)))
    shown = [attributes for tag, attributes in page.tags if tag == "img" and "From noise" in (attributes["alt"] or "")]
    assert [attributes["alt"] for attributes in shown] == [
        "From noise to image: digits, arm baseline, seed 0; none, its training failed",
        "From noise to image: digits, arm position=mlp, seed 0; columns: levels 987, image; "
        "rows: each image as it is, then the x0-prediction",
    ]
    png = (pictures / "position=mlp" / "0.png").read_bytes()
    assert shown[1]["src"] == f"data:image/png;base64,{base64.b64encode(png).decode()}"
    text = " ".join(page.text.split())
    assert "digits, position=mlp, seed 0, not the paper's scale; columns: levels 987, image" in text
    assert text.index("digits, position=mlp, seed 0") < text.index("From noise to image") < text.rindex("Every run")


@pytest.mark.slow
def test_tables_and_figures_whose_runs_were_made_in_different_places_say_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    entries = [
        Entry(arm=arm, seed=0, step="train", output="0" * 32, seconds=1.0, device=device, workers=1, threads=1)
        for arm, device in (("baseline", "H200"), ("norm=batch", "cpu, EPYC"))
    ]
    write_ledger(ledger_path(root, "node", "digits"), entries)
    told = "**Mixed:** runs of node, digits, were not made with the same device: H200; cpu, EPYC."
    sections = {section.id: section for section in gather_page(root).sections}
    marked = {name for name, section in sections.items() if told in section.notes}
    assert marked == {"table1", "table2", "table4", "node_accuracy", "figure6", "figure7", "node_arms"}
    places = [[cell.strip() for cell in line.split("|")] for line in sections["provenance"].text.splitlines()]
    workers = {cells[1]: cells[3] for cells in places if len(cells) > 3}
    assert (workers["H200"], workers["cpu, EPYC"]) == ("1", "—")
    monkeypatch.chdir(root)
    report()
    assert f"> {told}" in (root / "reports/README.md").read_text()


@pytest.mark.slow
def test_the_report_is_made_of_records_alone_and_in_one_order(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(root)
    report()
    files = ["README.md", "claims.md", "index.html", "records.csv", "share.png", "verdicts.md"]
    assert sorted(path.name for path in (root / "reports").iterdir()) == files
    order = load_project(root).report.order
    page = _Page((root / "reports/index.html").read_text())
    ids = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert {name for name in ids if name in order} == {name for name in order if name != "verdicts"}
    with Image.open(root / "reports/share.png") as picture:
        assert picture.size == (1200, 630)
    every = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(every) == len(set(every))
    assert {link for link in page.links() if link.startswith("#")} <= {f"#{name}" for name in every}
    headings = re.findall(r"^## (?:Table|Figure) \d", (root / "reports/README.md").read_text(), re.MULTILINE)
    assert [heading.split(" ", 1)[1] for heading in headings] == [
        f"{name[:-1].capitalize()} {name[-1]}" for name in order if re.fullmatch(r"(table|figure)\d", name)
    ]


@pytest.mark.slow
def test_the_use_of_the_time_is_a_dot_a_run_beside_its_score(root: Path):
    """Of the studies that measure it; a run that failed, or was not measured, has none."""

    def draw() -> dict[str, list[dict[str, object]]]:
        (section,) = (section for section in gather_page(root).sections if section.id == "time_use")
        rows = {drawing.id: drawing.chart["data"]["values"] for drawing in section.drawings}
        assert all(row.pop("series") == row["arm"] for dots in rows.values() for row in dots)  # what its legend hides
        return rows

    assert draw() == {}
    write_record(root / "records/node/digits/baseline/0.json", node_record(90.0, time_use=None))
    write_record(root / "records/node/digits/norm=batch/0.json", failure())
    assert draw() == {}
    write_record(root / "records/node/digits/norm=batch/0.json", node_record(91.0, time_use=0.5))
    assert draw() == {"chart-use-node-digits": [{"arm": "norm=batch", "seed": 0, "use": 0.5, "score": 91.0}]}
    write_record(root / "records/node/digits/baseline/0.json", node_record(90.0, time_use=-0.001))
    write_record(root / "records/ddpm/digits/position=mlp/0.json", ddpm_record(5.0, time_use=0.125))
    assert draw() == {
        "chart-use-node-digits": [
            {"arm": "baseline", "seed": 0, "use": -0.001, "score": 90.0},
            {"arm": "norm=batch", "seed": 0, "use": 0.5, "score": 91.0},
        ],
        "chart-use-ddpm-digits": [{"arm": "position=mlp", "seed": 0, "use": 0.125, "score": 5.0}],
    }


def test_the_page_goes_from_the_answer_over_the_claims_to_the_studies_each_with_its_first_figure_first(root: Path):
    project = load_project(root)
    contents = gather(read_sources(root, project))
    assert [section.id for section in contents.front] == list(project.report.front)
    assert [chapter.study for chapter in contents.chapters] == project.report.studies
    page = _Page(render_webpage(contents))
    ids = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    chapters = [f"study-{study}" for study in project.report.studies]
    leading = [name for name in ids if name in (*project.report.front, "missing", "claims", *chapters)]
    assert leading == [*project.report.front, "missing", "claims", *chapters]
    mains = {chapter.study: chapter.main.id for chapter in contents.chapters if chapter.main is not None}
    assert (mains["node"], mains["ddpm"], mains["timetest"]) == ("node_accuracy", "ddpm_loss", "timetest_unet")
    order = [name for name in project.report.order if project.report.tables.get(name) == "node"]
    assert [name for name in ids if name in order] == order


@pytest.mark.slow
def test_what_is_not_the_answer_is_folded_away(root: Path):
    """Tables, further figures, samples, costs and runs; the first figure of a study is not."""
    folded, depth = set(), 0

    class Folds(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            nonlocal depth
            depth += tag == "details"
            if depth and tag == "section":
                folded.add(dict(attrs)["id"])

        def handle_endtag(self, tag: str) -> None:
            nonlocal depth
            depth -= tag == "details"

    contents = gather_page(root)
    Folds().feed(render_webpage(contents))
    shown = [chapter.main.id for chapter in contents.chapters if chapter.main is not None]
    assert {"table1", "node_arms", "figure7", "study-node-claims", "theory"} <= folded
    assert not folded & {*shown, "claims", *(section.id for section in contents.front)}


def test_a_study_without_views_of_its_own_is_shown(root: Path, monkeypatch: pytest.MonkeyPatch):
    own = find_views("node")
    monkeypatch.setattr("pipeline.report.views.find_study", lambda name: replace(find_study(name), views=None))
    project = load_project(root)
    assert (find_views("node"), find_views("node") == own) == (Views(), False)
    kept = [name for name in project.report.order if name not in (*project.report.texts, *project.report.sections)]
    spec = project.report.model_copy(update={"order": kept, "front": [], "texts": {}, "sections": {}})
    write_record(root / "records/node/digits/baseline/0.json", node_record(90.0))
    contents = gather(read_sources(root, replace(project, report=spec)))
    ids = [section.id for section in contents.sections]
    assert {"table1", "figure7", "node_arms", "curves", "costs"} <= set(ids)
    text = _Page(render_webpage(contents)).text
    assert "90.00" in text
    assert "c1 Batch normalisation" in " ".join(text.split())


@pytest.mark.slow
def test_a_partial_state_says_what_is_missing(root: Path):
    write_record(root / "records/node/digits/baseline/0.json", node_record(90.0))
    text = _Page(render_webpage(gather_page(root))).text
    assert "What is missing" in text
    assert re.search(r"node, .*: missing: norm=batch, seed 0", text)
    assert re.search(r"ddpm, .*: missing: position=mlp, seed 0", text)
    assert re.search(r"theory, .*: missing: baseline, seed 0, 1, 2", text)
