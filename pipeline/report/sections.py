"""What the web page shows, in the paper's order: gathered from records, sample grids and rendered Markdown."""

from collections.abc import Collection, Iterator
from pathlib import Path

from pipeline.report.awareness import name_blocks
from pipeline.report.charts import Chart, draw_awareness, draw_sites, draw_snapshots, draw_sweep
from pipeline.report.claims import judge_records
from pipeline.report.costs import Books, find_mixtures, read_books, render_costs, render_places
from pipeline.report.curves import draw_curves
from pipeline.report.curves import find_points as find_curve
from pipeline.report.panel import Panel, list_missing, read_panel
from pipeline.report.protocol import describe_baseline
from pipeline.report.sweeps import find_points
from pipeline.report.tables import lay_out
from pipeline.report.webpage import Contents, Drawing, Sample, Section, render_static
from pipeline.schema.curve import CURVES
from pipeline.schema.ddpm import resolve_ddpm_run
from pipeline.schema.panel import STUDIES, StudyName
from pipeline.schema.project import Project
from pipeline.schema.record import NodeRecord, read_record

PAPERS_ORDER = ("table1", "table2", "table3", "table4", "figure6", "figure7")
REST = ("node_arms", "ddpm_arms", "ddpm_scores")


def _read_panels(root: Path, project: Project, study: StudyName) -> list[Panel]:
    """A study's panels, one a dataset."""
    return [read_panel(root, project, study, dataset) for dataset in project.panel.active(study)]


def _draw(name: str, title: str, chart: Chart | None, still: Chart | None = None) -> Iterator[Drawing]:
    """A drawing, if there is anything to draw.

    Args:
        still: what stands for the chart where there is no script, if it is not the chart itself.
    """
    if chart is not None:
        yield Drawing(f"chart-{name}", title, chart, render_static(still or chart))


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


def _curves(root: Path, project: Project, names: Collection[str]) -> list[Drawing]:
    """The curves of these names, study by study."""
    drawings: list[Drawing] = []
    for study in STUDIES:
        for panel in _read_panels(root, project, study):
            for curve in CURVES[study]:
                if curve.name in names:
                    points = find_curve(root, study, panel, curve)
                    chart, still = draw_curves(points, curve), draw_curves(points, curve, hover=False)
                    name, title = f"{curve.name}-{study}-{panel.dataset}", curve.title[0].upper() + curve.title[1:]
                    drawings += _draw(name, f"{title}: {study.upper()}, {panel.title}", chart, still)
    return drawings


def _learning(root: Path, project: Project) -> Section:
    """Loss and accuracy of every run while it was trained."""
    text = (
        "A line a seed; the baseline behind it in grey. At most 50 points a run are drawn; `curves/` has all, and "
        "`dvc plots diff` compares them between revisions."
    )
    return Section("curves", "Learning curves of every run", text, None, _curves(root, project, ("accuracy", "loss")))


def _nfe(root: Path, project: Project) -> Section:
    """What the solver needed while the NODE was trained."""
    text = "Function evaluations of a solve, mean over an epoch's batches; backward: of the adjoint solve."
    drawings = _curves(root, project, ("nfe", "nfe_backward"))
    return Section("nfe", "NFE over training (NODE)", text, None, drawings)


def _costs(root: Path, project: Project, books: Books) -> Section:
    """Minutes and places."""
    parts = [
        "Wall time of one run, mean over the seeds, other work on the machine included. An output that came from "
        "DVC's cache and was never made here has none (—)."
    ]
    for study in STUDIES:
        for panel in _read_panels(root, project, study):
            parts += ["", f"### {study.upper()}, {panel.title}", "", render_costs(study, panel, books)]
    return Section("costs", "Cost of each run", "\n".join(parts))


def _provenance(books: Books) -> Section:
    """What made the numbers."""
    text = (
        "What trained, sampled and evaluated, and the revision of the code at that time. The same settings in another "
        "row may give other bytes. Each run below names DVC's hash of what it made: dvc.lock has the same."
    )
    parts = [text, "", render_places(books), "", *(f"- {line}." for line in find_mixtures(books))]
    return Section("provenance", "Provenance", "\n".join(parts))


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


def gather(root: Path, project: Project) -> Contents:
    """All that the page shows."""
    books = read_books(root, project.runs())
    sections = [
        *_missing(root, project),
        *(
            _table(root, project, name) if name in project.tables else _figure(root, project, name)
            for name in PAPERS_ORDER
        ),
        Section("theory", "Theory: how much an untrained ODE function depends on time", _read_text(root, "theory")),
        _time(root, project),
        _levels(root, project),
        _learning(root, project),
        _nfe(root, project),
        _snapshots(root, project),
        *(_table(root, project, name) for name in REST),
        _costs(root, project, books),
        _provenance(books),
    ]
    runs = [(run, read_record(root, run.study, run.dataset, run.arm, run.seed)) for run in project.runs()]
    return Contents(
        project.claims, judge_records(root, project), sections, list(_find_samples(root, project)), runs, books
    )
