"""What the web page shows, in the paper's order: gathered from records, sample grids and rendered Markdown."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.report.awareness import name_blocks
from pipeline.report.charts import Chart, draw_awareness, draw_sites, draw_snapshots, draw_sweep
from pipeline.report.claims import judge_records
from pipeline.report.panel import Panel, list_missing, read_panel
from pipeline.report.protocol import describe_baseline
from pipeline.report.schematic import Schematic, draw_schematics
from pipeline.report.sweeps import find_points
from pipeline.report.tables import lay_out
from pipeline.report.webpage import Contents, Drawing, Sample, Section, render_static
from pipeline.schema.architecture import PATH as ARCHITECTURE
from pipeline.schema.architecture import Architecture
from pipeline.schema.base import SpecError
from pipeline.schema.ddpm import resolve_ddpm_run
from pipeline.schema.document import read_document
from pipeline.schema.panel import STUDIES, StudyName
from pipeline.schema.project import Project
from pipeline.schema.record import NodeRecord, read_record

PAPERS_ORDER = ("table1", "table2", "table3", "table4", "figure6", "figure7")
REST = ("node_arms", "ddpm_arms", "ddpm_scores")


def _read_panels(root: Path, project: Project, study: StudyName) -> list[Panel]:
    """A study's panels, one a dataset."""
    return [read_panel(root, project, study, dataset) for dataset in project.panel.active(study)]


def _draw(name: str, title: str, chart: Chart | None) -> Iterator[Drawing]:
    """A drawing, if there is anything to draw."""
    if chart is not None:
        yield Drawing(f"chart-{name}", title, chart, render_static(chart))


def _table(root: Path, project: Project, name: str) -> Section:
    """A table of specs/tables/."""
    table = project.tables[name]
    grid = lay_out(
        table,
        _read_panels(root, project, table.study),
        lambda dataset: describe_baseline(project, table.study, dataset),
    )
    return Section(name, table.title, text=table.caption, grid=grid)


def _figure(root: Path, project: Project, name: str) -> Section:
    """A figure of specs/figures/."""
    figure = project.figures[name]
    drawings: list[Drawing] = []
    for panel in _read_panels(root, project, figure.study):
        points = find_points(project, panel.dataset, panel.arms, figure.x.field, figure.series)
        drawings += _draw(
            f"{name}-{panel.dataset}", f"{figure.title}: {panel.title}", draw_sweep(figure, panel, points)
        )
    note = f"Line and band: mean ± standard deviation over seeds; dots: single seeds. Values: [{name}.md]({name}.md)."
    return Section(name, figure.title, text=figure.caption, drawings=drawings, notes=[note])


def _time(root: Path, project: Project) -> Section:
    """How much the NODE study's functions depend on time."""
    drawings: list[Drawing] = []
    for panel in _read_panels(root, project, "node"):
        drawings += _draw(f"time-{panel.dataset}", f"Time-awareness of each run: {panel.title}", draw_awareness(panel))
        counts = {
            arm: max((len(record.trained.site_change) for record in records if record.trained is not None), default=0)
            for arm in panel.arms
            if (records := [one for one in panel.completed(arm).values() if isinstance(one, NodeRecord)])
        }
        names = {arm: [str(index + 1) for index in range(count)] for arm, count in counts.items()}
        title = f"Time-awareness, layer by layer: {panel.title}"
        drawings += _draw(f"time-sites-{panel.dataset}", title, draw_sites(panel, names, "layer"))
    text = (
        "‖f(h, 1) − f(h, 0)‖ / ‖f(h, 0)‖ of the ODE function on features of test images, before the first step and "
        "after the last. By layer: the same of the normalised sum after each convolution with a timestep embedding."
    )
    return Section("time-awareness", "Time-awareness of the NODE study", text=text, drawings=drawings)


def _levels(root: Path, project: Project) -> Section:
    """How much the diffusion models depend on the level."""
    drawings: list[Drawing] = []
    for panel in _read_panels(root, project, "ddpm"):
        drawings += _draw(
            f"level-{panel.dataset}", f"Level-awareness of each run: {panel.title}", draw_awareness(panel)
        )
        names = {arm: name_blocks(resolve_ddpm_run(project.ddpm, panel.dataset, arm, seed=0)) for arm in panel.arms}
        title = f"Level-awareness, block by block: {panel.title}"
        drawings += _draw(f"level-blocks-{panel.dataset}", title, draw_sites(panel, names, "block"))
    return Section(
        "level-awareness", "Level-awareness of the DDPM study", _read_text(root, "level_awareness"), None, drawings
    )


def _snapshots(root: Path, project: Project) -> Section:
    """FID over training."""
    drawings: list[Drawing] = []
    for panel in _read_panels(root, project, "ddpm"):
        drawings += _draw(f"snapshots-{panel.dataset}", f"FID over training: {panel.title}", draw_snapshots(panel))
    text = "Of the first sample set of each snapshot."
    return Section("snapshots", "FID over training (DDPM)", text=text, drawings=drawings)


def _read_text(root: Path, name: str) -> str:
    """A rendered section without its heading."""
    return (root / "reports" / f"{name}.md").read_text(encoding="utf-8").split("\n", 1)[1]


def _missing(root: Path, project: Project) -> Iterator[Section]:
    """What params.yaml asks for and is not there; nothing where all is."""
    lines = [
        f"- {study}, {panel.title}: {line}"
        for study in STUDIES
        for panel in _read_panels(root, project, study)
        for line in list_missing(panel, panel.arms)
    ]
    if lines:
        yield Section("missing", "What is missing", text="\n".join(lines))


def _find_samples(root: Path, project: Project) -> Iterator[Sample]:
    """The sample grids that there are."""
    for run in project.runs():
        path = root / "reports/previews/ddpm" / run.dataset / run.arm / f"{run.seed}.png"
        if run.study == "ddpm" and path.is_file():
            embedded = project.data.datasets[run.dataset].scale == "embedded"
            note = ", not the paper's scale" if embedded else ""
            yield Sample(run.dataset, run.arm, run.seed, path.read_bytes(), note)


def _schematics(root: Path, project: Project) -> list[Schematic]:
    """How sites are built under each remedy."""
    architecture = read_document(root / ARCHITECTURE, Architecture)
    titles = {name: dataset.title for name, dataset in project.data.datasets.items()}
    for networks in architecture.networks:
        if networks.dataset not in titles:
            raise SpecError(f"{ARCHITECTURE}: dataset {networks.dataset!r} is not in specs/data.yaml; run `dvc repro`")
    return draw_schematics(architecture, titles)


def gather(root: Path, project: Project) -> Contents:
    """All that the page shows."""
    sections = [
        *_missing(root, project),
        *(
            _table(root, project, name) if name in project.tables else _figure(root, project, name)
            for name in PAPERS_ORDER
        ),
        Section("theory", "Theory: how much an untrained ODE function depends on time", _read_text(root, "theory")),
        _time(root, project),
        _levels(root, project),
        _snapshots(root, project),
        *(_table(root, project, name) for name in REST),
    ]
    runs = [(run, read_record(root, run.study, run.dataset, run.arm, run.seed)) for run in project.runs()]
    return Contents(
        project.claims, judge_records(root, project), sections, list(_find_samples(root, project)), runs,
        _schematics(root, project),
    )  # fmt: skip
