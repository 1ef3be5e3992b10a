"""What the web page shows, in the paper's order: gathered from records, sample grids and rendered Markdown."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.report.awareness import name_blocks
from pipeline.report.charts import Chart, draw_awareness, draw_sites, draw_snapshots, draw_sweep
from pipeline.report.claims import judge_records
from pipeline.report.costs import Books, find_mixtures, read_books, render_costs, render_places
from pipeline.report.curves import draw_curves
from pipeline.report.curves import find_points as find_curve
from pipeline.report.flops import Flops, count_runs
from pipeline.report.panel import Panel, list_gaps, read_panel
from pipeline.report.protocol import describe_baseline
from pipeline.report.schematic import Schematic, draw_schematics
from pipeline.report.sweeps import find_points
from pipeline.report.tables import lay_out
from pipeline.report.webpage import Contents, Drawing, Sample, Section, render_static
from pipeline.schema.architecture import PATH as ARCHITECTURE
from pipeline.schema.architecture import Architecture
from pipeline.schema.base import SpecError
from pipeline.schema.curve import CURVES
from pipeline.schema.document import read_document
from pipeline.schema.panel import STUDIES, StudyName
from pipeline.schema.project import Project
from pipeline.schema.record import Failure, Record
from pipeline.schema.study import Run
from pipeline.studies.ddpm.study import resolve_ddpm_run
from pipeline.studies.node.study import NodeRecord

PAPERS_ORDER = ("table1", "table2", "table3", "table4", "figure6", "figure7")
REST = ("node_arms", "ddpm_arms", "ddpm_scores")


@dataclass(frozen=True)
class _Sources:
    """What the sections are made of, read once."""

    root: Path
    project: Project
    panels: Mapping[StudyName, Sequence[Panel]]
    """Of each study, one a dataset."""
    runs: Sequence[tuple[Run, Record | Failure | None]]
    books: Books
    flops: Flops
    architecture: Architecture


def _read_sources(root: Path, project: Project) -> _Sources:
    panels = {
        study: [read_panel(root, project, study, dataset) for dataset in project.panel.active(study)]
        for study in STUDIES
    }
    records = {
        (study, panel.dataset, arm, seed): record
        for study, found in panels.items()
        for panel in found
        for arm, of_arm in panel.records.items()
        for seed, record in of_arm.items()
    }
    runs = [(run, records.get((run.study, run.dataset, run.arm, run.seed))) for run in project.runs()]
    books = read_books(root, [run for run, _ in runs])
    architecture = read_document(root / ARCHITECTURE, Architecture)
    flops = count_runs(root, project, architecture, runs)
    return _Sources(root, project, panels, runs, books, flops, architecture)


def _draw(name: str, title: str, chart: Chart | None, still: Chart | None = None) -> Iterator[Drawing]:
    """A drawing, if there is anything to draw.

    Args:
        still: what stands for the chart where there is no script, if it is not the chart itself.
    """
    if chart is not None:
        yield Drawing(f"chart-{name}", title, chart, render_static(still or chart))


def _warn(sources: _Sources, study: str) -> list[str]:
    """Where a study's numbers were made in places that may give different bytes."""
    return find_mixtures({key: entries for key, entries in sources.books.items() if key[0] == study})


def _table(sources: _Sources, name: str) -> Section:
    """A table of specs/tables/."""
    table = sources.project.tables[name]
    grid = lay_out(
        table,
        sources.panels[table.study],
        lambda dataset: describe_baseline(sources.project, table.study, dataset),
    )
    return Section(name, table.title, text=table.caption, grid=grid, notes=_warn(sources, table.study))


def _figure(sources: _Sources, name: str) -> Section:
    """A figure of specs/figures/."""
    figure = sources.project.figures[name]
    drawings: list[Drawing] = []
    for panel in sources.panels[figure.study]:
        points = find_points(sources.project, panel.dataset, panel.arms, figure.x.field, figure.series)
        drawings += _draw(
            f"{name}-{panel.dataset}", f"{figure.title}: {panel.title}", draw_sweep(figure, panel, points)
        )
    warnings = _warn(sources, figure.study)
    note = f"Line and band: mean ± standard deviation over seeds; dots: single seeds. Values: [{name}.md]({name}.md)."
    return Section(name, figure.title, text=figure.caption, drawings=drawings, notes=[note, *warnings])


def _time(sources: _Sources) -> Section:
    """How much the NODE study's functions depend on time."""
    drawings: list[Drawing] = []
    for panel in sources.panels["node"]:
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


def _levels(sources: _Sources) -> Section:
    """How much the diffusion models depend on the level."""
    drawings: list[Drawing] = []
    spec = sources.project.ddpm
    for panel in sources.panels["ddpm"]:
        drawings += _draw(
            f"level-{panel.dataset}", f"Level-awareness of each run: {panel.title}", draw_awareness(panel)
        )
        names = {arm: name_blocks(resolve_ddpm_run(spec, panel.dataset, arm, seed=0)) for arm in panel.arms}
        title = f"Level-awareness, block by block: {panel.title}"
        drawings += _draw(f"level-blocks-{panel.dataset}", title, draw_sites(panel, names, "block"))
    text = _read_text(sources.root, "level_awareness")
    return Section("level-awareness", "Level-awareness of the DDPM study", text, None, drawings)


def _snapshots(sources: _Sources) -> Section:
    """FID over training."""
    drawings: list[Drawing] = []
    for panel in sources.panels["ddpm"]:
        drawings += _draw(f"snapshots-{panel.dataset}", f"FID over training: {panel.title}", draw_snapshots(panel))
    text = "Of the first sample set of each snapshot."
    return Section("snapshots", "FID over training (DDPM)", text=text, drawings=drawings)


def _curves(sources: _Sources, names: Collection[str]) -> list[Drawing]:
    """The curves of these names, study by study."""
    drawings: list[Drawing] = []
    for study in STUDIES:
        for panel in sources.panels[study]:
            for curve in CURVES[study]:
                if curve.name in names:
                    points = find_curve(sources.root, study, panel, curve)
                    chart, still = draw_curves(points, curve), draw_curves(points, curve, hover=False)
                    name, title = f"{curve.name}-{study}-{panel.dataset}", curve.title[0].upper() + curve.title[1:]
                    drawings += _draw(name, f"{title}: {study.upper()}, {panel.title}", chart, still)
    return drawings


def _learning(sources: _Sources) -> Section:
    """Loss and accuracy of every run while it was trained."""
    text = (
        "A line a seed; the baseline behind it in grey. At most 50 points a run are drawn; `curves/` has all, and "
        "`dvc plots diff` compares them between revisions."
    )
    return Section("curves", "Learning curves of every run", text, None, _curves(sources, ("accuracy", "loss")))


def _nfe(sources: _Sources) -> Section:
    """What the solver needed while the NODE was trained."""
    text = "Function evaluations of a solve, mean over an epoch's batches; backward: of the adjoint solve."
    drawings = _curves(sources, ("nfe_train", "nfe_backward"))
    return Section("nfe", "NFE over training (NODE)", text, None, drawings)


def _costs(sources: _Sources) -> Section:
    """Minutes and places."""
    parts = [
        "Of one run, means over the seeds. TFLOP: 10¹² additions and multiplications of convolutions, matrix products "
        "and attention, counted on the networks as built and taken as often as they ran; a backward pass as two "
        "forward passes; a NODE's passes over the test split left out. Minutes: wall time, other work on the machine "
        "included. An output that came from DVC's cache and was never made here has none (—)."
    ]
    for study in STUDIES:
        for panel in sources.panels[study]:
            costs = render_costs(study, panel, sources.books, sources.flops)
            parts += ["", f"### {study.upper()}, {panel.title}", "", costs]
    return Section("costs", "Cost of each run", "\n".join(parts))


def _provenance(sources: _Sources) -> Section:
    """What made the numbers."""
    text = (
        "What trained, sampled and evaluated, and the revision of the code at that time. The same settings in another "
        "row may give other bytes. Each run below names DVC's hash of what it made: dvc.lock has the same."
    )
    parts = [text, "", render_places(sources.books), "", *(f"- {line}" for line in find_mixtures(sources.books))]
    return Section("provenance", "Provenance", "\n".join(parts))


def _read_text(root: Path, name: str) -> str:
    """A rendered section without its heading."""
    return (root / "reports" / f"{name}.md").read_text(encoding="utf-8").split("\n", 1)[1]


def _missing(sources: _Sources) -> Iterator[Section]:
    """What params.yaml asks for and is not there, or of other settings; nothing where all is well."""
    lines = [
        f"- {study}, {panel.title}: {line}"
        for study in STUDIES
        for panel in sources.panels[study]
        for line in list_gaps(panel, panel.arms)
    ]
    if lines:
        yield Section("missing", "What is missing or outdated", text="\n".join(lines))


def _find_samples(sources: _Sources, kind: str) -> Iterator[Sample]:
    """The pictures of a kind that there are; `levels` is a text in those that have some."""
    for run, _ in sources.runs:
        path = sources.root / "reports" / kind / "ddpm" / run.dataset / run.arm / f"{run.seed}.png"
        if run.study == "ddpm" and path.is_file():
            embedded = sources.project.data.datasets[run.dataset].scale == "embedded"
            note = ", not the paper's scale" if embedded else ""
            with Image.open(path) as picture:
                levels = picture.info.get("levels", "")
            yield Sample(run.dataset, run.arm, run.seed, path.read_bytes(), note, levels)


def _schematics(sources: _Sources) -> list[Schematic]:
    """How sites are built under each remedy."""
    titles = {name: dataset.title for name, dataset in sources.project.data.datasets.items()}
    for networks in sources.architecture.networks:
        if networks.dataset not in titles:
            raise SpecError(f"{ARCHITECTURE}: dataset {networks.dataset!r} is not in specs/data.yaml; run `dvc repro`")
    return draw_schematics(sources.architecture, titles)


def gather(root: Path, project: Project) -> Contents:
    """All that the page shows."""
    sources = _read_sources(root, project)
    sections = [
        *_missing(sources),
        *(_table(sources, name) if name in project.tables else _figure(sources, name) for name in PAPERS_ORDER),
        Section("theory", "Theory: how much an untrained ODE function depends on time", _read_text(root, "theory")),
        _time(sources),
        _levels(sources),
        _learning(sources),
        _nfe(sources),
        _snapshots(sources),
        *(_table(sources, name) for name in REST),
        _costs(sources),
        _provenance(sources),
    ]
    samples, trajectories = (list(_find_samples(sources, kind)) for kind in ("previews", "trajectories"))
    verdicts, schematics = judge_records(root, project), _schematics(sources)
    return Contents(project.claims, verdicts, sections, samples, sources.runs, sources.books, trajectories, schematics)
