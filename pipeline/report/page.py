"""The report as one Markdown page: the views in the order of specs/report.yaml, then sample grids."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.report.claims import list_claims
from pipeline.report.costs import find_mixtures
from pipeline.report.figures import render_figure
from pipeline.report.markdown import render_grid
from pipeline.report.sources import Sources
from pipeline.report.verdicts import render_verdicts
from pipeline.report.views import render_text
from pipeline.schema.report import VERDICTS
from pipeline.schema.study import find_study

_HEAD = """# Report

Rendered by `dvc repro` from the records in `records/`; every number was run by this pipeline, except columns that
begin with "paper:". The question is the paper's (arXiv 2405.14126v1): is a timestep embedding that is added as one
offset per channel lost in the normalisation that follows, and do the three remedies help?
"""

_EMBEDDED = """
> **The digits are the embedded default, not the paper's scale.** They show that the pipeline works from data to
> table on any laptop. With so few seeds, images and steps, an effect of the paper may be absent or reversed here; that
> is shown as it is and says little about the paper. Fill in `cifar10` and `cifar100` in params.yaml for its scale.
"""

_SAMPLES = """## Samples

The first images of each model, unselected; in the same place the same noise. Below them the first few on their way from
pure noise to the image, two rows each: as it is, and the x0-prediction there.
"""


@dataclass(frozen=True)
class Preview:
    """A grid of samples, and a trajectory."""

    case: str
    arm: str
    seed: int
    path: str
    """Relative to previews/ and trajectories/, which lie beside the report."""


def render_page(
    sections: Mapping[str, str], previews: Sequence[Preview], embedded: bool, warnings: Sequence[str] = ()
) -> str:
    """The report as Markdown.

    Args:
        sections: name to rendered Markdown, in order.
        embedded: whether a case of the small default is among the panels.
        warnings: Markdown, what to know before any number is compared with another.
    """
    parts = [_HEAD + (_EMBEDDED if embedded else ""), *(f"> {warning}\n" for warning in warnings)]
    parts += sections.values()
    if previews:
        parts.append(_SAMPLES)
        for preview in previews:
            title = f"{preview.case}, arm `{preview.arm}`, seed {preview.seed}"
            alt = title.replace("`", "")
            parts.append(f"**{title}**\n\n![Samples: {alt}](<previews/{preview.path}>)\n")
            parts.append(f"![From noise to image: {alt}](<trajectories/{preview.path}>)\n")
    return "\n".join(parts)


def _render_views(sources: Sources) -> Iterator[tuple[str, str]]:
    """Name and Markdown of each view, in order; what is of the web page alone has none."""
    project, report = sources.project, sources.project.report
    for name in report.order:
        if name == VERDICTS:
            yield name, render_verdicts(list_claims(project), sources.verdicts)
        elif name in report.tables:
            yield name, render_grid(sources.lay_out_table(name))
        elif name in report.figures:
            figure = project.figures[name]
            yield name, render_figure(figure, name, sources.panels[figure.study])
        elif name in report.texts:
            yield name, render_text(name, project, sources.panels[report.texts[name]])


def render_report(sources: Sources) -> str:
    """reports/README.md."""
    previews = [
        Preview(run.case, run.arm, run.seed, f"{run.name}.png")
        for run, _ in sources.runs
        if "sample" in find_study(run.study).steps
    ]
    return render_page(dict(_render_views(sources)), previews, sources.embedded, find_mixtures(sources.books))
