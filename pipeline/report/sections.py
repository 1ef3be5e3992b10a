"""What the web page shows, in the order of specs/report.yaml: from records, curves, ledger and sample grids."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from PIL import Image

from pipeline.report.charts import USE, draw_case, draw_use, make_drawings
from pipeline.report.costs import find_mixtures, render_costs, render_places
from pipeline.report.curves import list_curves
from pipeline.report.figures import explain_marks
from pipeline.report.flops import count_runs
from pipeline.report.markdown import escape_cell
from pipeline.report.panel import Panel, list_gaps, select_panels
from pipeline.report.schematic import Schematic, draw_schematics
from pipeline.report.sources import Sources
from pipeline.report.views import Section, find_views, make_section, render_text
from pipeline.report.webpage import Chapter, Contents, Sample
from pipeline.schema.architecture import PATH as ARCHITECTURE
from pipeline.schema.architecture import Architecture
from pipeline.schema.base import SpecError
from pipeline.schema.document import read_document
from pipeline.schema.report import COSTS, CURVES, PROVENANCE, TIME_USE
from pipeline.schema.study import find_study, numeric_keys


def _list_panels(sources: Sources) -> Iterator[Panel]:
    """Those of all studies, in order."""
    return (panel for panels in sources.panels.values() for panel in panels)


def _name_panel(sources: Sources, panel: Panel) -> str:
    """Study and case, as a heading has them."""
    return escape_cell(f"{sources.project.specs[panel.study].title}, {panel.title}")


def _show_table(sources: Sources, name: str) -> Section:
    table = sources.project.tables[name]
    grid, warnings = sources.lay_out_table(name), sources.find_mixtures(table.study)
    return Section(name, table.title, text=table.caption, grid=grid, notes=warnings)


def _show_figure(sources: Sources, name: str) -> Section:
    figure = sources.project.figures[name]
    drawings = [
        drawing
        for panel in select_panels(sources.panels[figure.study], figure.cases)
        for chart in [draw_case(figure, panel)]
        for drawing in make_drawings(f"{name}-{panel.case}", f"{figure.title}: {panel.title}", chart)
    ]
    note = f"{explain_marks(figure, 'seeds')} Values: [{name}.md]({name}.md)."
    warnings = sources.find_mixtures(figure.study)
    return Section(name, figure.title, text=figure.caption, drawings=drawings, notes=[note, *warnings])


def _show_text(sources: Sources, name: str) -> Section:
    """A text below its heading, and the charts that belong to it."""
    study = sources.project.report.texts[name]
    panels = sources.panels[study]
    title, text = render_text(name, sources.project, panels).split("\n", 1)
    draw = find_views(study).drawings.get(name)
    drawings = draw(sources.project, panels) if draw is not None else ()
    return Section(name, title.removeprefix("## "), text=text, drawings=drawings)


def _show_curves(sources: Sources) -> Section:
    """The curves of every run, but for those that a study shows itself."""
    text = (
        "The baseline's, and what each other arm differs by from the baseline of the same seed; a line a seed. At most "
        "50 points a run are drawn; `curves/` has all, and "
        "`dvc plots diff` compares them between revisions."
    )
    drawings = []
    for panel in _list_panels(sources):
        own = find_views(panel.study).curves
        names = [curve.name for curve in find_study(panel.study).curves if curve.name not in own]
        drawings += list_curves(sources.root, sources.project, panel, names)
    return Section(CURVES, "Learning curves of every run", text=text, drawings=drawings)


def _show_use(sources: Sources) -> Section:
    """Time used against score, in the studies that measure it."""
    text = (
        "What a trained network makes of the time: how much its loss on test images rises when the time is frozen "
        "(NODE: t = 1/2 in every evaluation; diffusion: the mean level for all). 0: nothing. A dot: one network."
    )
    drawings = []
    for panel in _list_panels(sources):
        if USE in numeric_keys(find_study(panel.study).record):
            score = sources.project.specs[panel.study].headline[0]
            name, title = f"use-{panel.study}-{panel.case}", f"Use of the time and score: {_name_panel(sources, panel)}"
            drawings += make_drawings(name, title, draw_use(panel, score))
    return Section(TIME_USE, "Time used, and score", text=text, drawings=drawings)


def _show_costs(sources: Sources, architecture: Architecture) -> Section:
    """FLOPs and minutes."""
    flops = count_runs(sources.root, sources.project, architecture, sources.runs)
    parts = [
        "Of one run, means over the seeds. TFLOP: 10¹² additions and multiplications of convolutions, matrix products "
        "and attention, counted on the networks as built and taken as often as they ran; a backward pass as two "
        "forward passes; passes over a test split left out. Minutes: wall time, other work on the machine "
        "included. An output that came from DVC's cache and was never made here has none (—)."
    ]
    for panel in _list_panels(sources):
        parts += ["", f"### {_name_panel(sources, panel)}", "", render_costs(panel, sources.books, flops)]
    return Section(COSTS, "Cost of each run", "\n".join(parts))


def _show_provenance(sources: Sources) -> Section:
    """What made the numbers."""
    text = (
        "What trained, sampled and evaluated, and the revision of the code at that time. The same settings in another "
        "row may give other bytes. Each run below names DVC's hash of what it made: dvc.lock has the same."
    )
    parts = [text, "", render_places(sources.books), "", *(f"- {line}" for line in find_mixtures(sources.books))]
    return Section(PROVENANCE, "Provenance", "\n".join(parts))


def _show_missing(sources: Sources) -> Iterator[Section]:
    """What params.yaml asks for and is not there, or of other settings; nothing where all is well."""
    lines = [
        f"- {panel.study}, {panel.title}: {line}"
        for panel in _list_panels(sources)
        for line in list_gaps(panel, panel.arms)
    ]
    if lines:
        yield Section("missing", "What is missing or outdated", text="\n".join(lines))


def _show_view(sources: Sources, name: str) -> Section:
    """A view of a study."""
    report = sources.project.report
    if name in report.tables:
        return _show_table(sources, name)
    if name in report.figures:
        return _show_figure(sources, name)
    if name in report.texts:
        return _show_text(sources, name)
    return make_section(name, sources.root, sources.project, sources.panels[report.sections[name]])


def _find_main(names: Sequence[str], shown: Mapping[str, Section], figures: Collection[str]) -> str | None:
    """The chart that stands for a study: of its first figure with one, or else of its first view with one."""
    drawn = [name for name in names if shown[name].drawings]
    return next((name for name in drawn if name in figures), next(iter(drawn), None))


def _tell_studies(sources: Sources) -> Iterator[Chapter]:
    """The studies in order, each with its views but for those that lead the page."""
    project, report = sources.project, sources.project.report
    owners = {**report.tables, **report.figures, **report.texts, **report.sections}
    for study, spec in project.specs.items():
        names = [name for name in report.order if owners.get(name) == study and name not in report.front]
        shown = {name: _show_view(sources, name) for name in names}
        main = _find_main(names, shown, report.figures)
        rest = [shown[name] for name in names if name != main]
        yield Chapter(
            study,
            spec.title,
            spec.source,
            spec.story,
            project.claims[study].claims,
            None if main is None else shown[main],
            [section for section in rest if section.drawings],
            [section for section in rest if not section.drawings],
        )


def _show_others(sources: Sources, architecture: Architecture) -> Iterator[Section]:
    """What is about all studies, in order."""
    for name in sources.project.report.order:
        if name == CURVES:
            yield _show_curves(sources)
        elif name == TIME_USE:
            yield _show_use(sources)
        elif name == COSTS:
            yield _show_costs(sources, architecture)
        elif name == PROVENANCE:
            yield _show_provenance(sources)


def _find_samples(sources: Sources, kind: str) -> Iterator[Sample]:
    """The pictures of a kind that there are; `levels` is a text in those that have some."""
    for run, _ in sources.runs:
        path = sources.root / "reports" / kind / f"{run.name}.png"
        if path.is_file():
            embedded = sources.project.case(run.study, run.case).scale == "embedded"
            note = ", not the paper's scale" if embedded else ""
            with Image.open(path) as picture:
                levels = picture.info.get("levels", "")
            yield Sample(run.case, run.arm, run.seed, path.read_bytes(), note, levels)


def _draw_sites(sources: Sources, architecture: Architecture) -> list[Schematic]:
    """How sites are built under each remedy."""
    project = sources.project
    titles = {
        (study, case): project.case(study, case).title for study, grids in project.panel.grids.items() for case in grids
    }
    for networks in architecture.networks:
        if (networks.study, networks.case) not in titles:
            raise SpecError(f"{ARCHITECTURE}: {networks.study} has no case {networks.case!r}; run `dvc repro`")
    return draw_schematics(architecture, titles)


def gather(sources: Sources) -> Contents:
    """All that the page shows.

    Raises:
        SpecError: records/architecture.json is missing, or another version's.
    """
    architecture = read_document(sources.root / ARCHITECTURE, Architecture)
    previews, trajectories = (list(_find_samples(sources, kind)) for kind in ("previews", "trajectories"))
    return Contents(
        pages=sources.verdicts,
        front=[_show_view(sources, name) for name in sources.project.report.front],
        missing=list(_show_missing(sources)),
        chapters=list(_tell_studies(sources)),
        others=list(_show_others(sources, architecture)),
        samples=previews,
        runs=sources.runs,
        headlines={study: spec.headline[0] for study, spec in sources.project.specs.items()},
        books=sources.books,
        trajectories=trajectories,
        schematics=_draw_sites(sources, architecture),
    )
