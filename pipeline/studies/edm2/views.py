"""The text `edm2`: what magnitudes, gains and post-hoc averages did; below it, charts of the drift."""

from collections.abc import Sequence

from pipeline.report.charts import draw_lines, make_drawings
from pipeline.report.markdown import align_table
from pipeline.report.panel import Panel, list_gaps
from pipeline.report.views import Drawing, Views
from pipeline.schema.arm import BASELINE
from pipeline.schema.curve import Point
from pipeline.schema.project import Project
from pipeline.studies.edm2.study import BLOCK, LADDER, BlockCell, Edm2Record

_EXACT = 1e-12
"""A relative change in float64 below it is rounding."""
_TITLE = "## EDM2: magnitudes, gains and post-hoc averages"
_SHOWS = """
It follows Karras et al. 2024 (arXiv 2312.02696), from its formulas. A post-hoc average errs as much as the fit of its
profile says, and in a training far less. EDM2's block is told the noise level by a factor 1 + g e on each channel, and
no norm follows: nothing cancels it, unlike the offset of the main paper; behind a norm of each channel the same factor
is lost, but for its sign. Forced normalisation keeps the weights at one size. **It does not show** the paper's gain in
FID (8.00 to 2.56 on ImageNet-512, from config A to G): on digits, in so short a training, the loss does not fall along
the ladder; and what the steps between A and G change is our small reading of them.

*Why 1 / sqrt(N) beside a norm of sqrt(N)?* The layer divides each row of N weights by its root mean square, which
leaves the stored row a norm of sqrt(N): so Adam's rate is a relative step. The output is to have the input's variance,
and for that the effective row needs a norm of 1: hence the factor 1 / sqrt(N). Without it outputs would be sqrt(N)
times too large, 5.2 times for a 3x3 kernel on 3 channels.
"""
_BLOCK = """
### How much an untrained block changes with the noise level, by the norm behind the injection

Largest relative change of the output over six levels, float64, n = {seeds}, g = {gain}. **0** marks what a norm of
each channel cancels, and in brackets what was measured there: rounding. With g = 0, as EDM2 starts, the change is
{initial:.0f}.
"""


def _show(cells: Sequence[BlockCell]) -> str:
    changes = [cell.change for cell in cells]
    if all(cell.vanishes for cell in cells):
        return f"**0** ({max(changes):.0e})" if max(changes) < _EXACT else f"{max(changes):.1e}, not 0!"
    return f"{sum(changes) / len(changes):.3f}"


def _render_block(panel: Panel, arm: str) -> list[str]:
    records: list[Edm2Record] = list(panel.completed(arm).values())
    rows: dict[str, list[str]] = {}
    for cells in zip(*(record.cells for record in records), strict=True):
        rows.setdefault(cells[0].inject, [cells[0].inject]).append(_show(cells))
    header = ["told by", *dict.fromkeys(cell.norm for cell in records[0].cells)]
    initial = max(record.change_initial or 0.0 for record in records)
    gain = panel.runs[arm].block.gain  # type: ignore[attr-defined]
    head = _BLOCK.format(seeds=len(records), gain=gain, initial=initial)
    return [head, align_table(header, list(rows.values()), left=1)]


def render_edm2(_: Project, panels: Sequence[Panel]) -> str:
    """What it shows and does not, an answer, and the table of blocks."""
    parts = [_TITLE, _SHOWS]
    for panel in panels:
        if panel.case == BLOCK:
            for arm in sorted(panel.arms, key=lambda arm: arm != BASELINE):
                parts += _render_block(panel, arm) if panel.completed(arm) else []
        parts += ["", *(f"- {line}." for line in gaps)] if (gaps := list_gaps(panel, panel.arms)) else []
    return "\n".join(parts) + "\n"


def _list_sizes(panel: Panel, key: str) -> list[Point]:
    """Mean over layers or blocks, over the first one: 1 at step 0."""
    points = []
    for arm in panel.arms:
        for seed, record in panel.completed(arm).items():
            sizes = [(moment.step, getattr(moment, key)) for moment in record.drift]
            first = sum(sizes[0][1])
            points += [Point(arm, seed, step, sum(values) / first) for step, values in sizes]
    return points


def _list_losses(panel: Panel) -> list[Point]:
    """Test loss of post-hoc averages, by their length."""
    return [
        Point(arm, seed, one.length, one.loss)
        for arm in panel.arms
        for seed, record in panel.completed(arm).items()
        for one in record.length_losses
    ]


def draw_drift(_: Project, panels: Sequence[Panel]) -> list[Drawing]:
    """Sizes of weights and activations over training, and the loss by length of the average."""
    drawings: list[Drawing] = []
    for panel in panels:
        if panel.case == LADDER:
            for key, title in (("weights", "Weights"), ("activations", "Activations")):
                chart = draw_lines(_list_sizes(panel, key), "training step", "mean RMS, over that at step 0")
                drawings += make_drawings(f"edm2-{key}", f"{title} over training, by config", chart)
            chart = draw_lines(_list_losses(panel), "length of the average, as a part of the training", "test loss")
            drawings += make_drawings("edm2-lengths", "Test loss of post-hoc averages, by length", chart)
    return drawings


VIEWS = Views(texts={"edm2": render_edm2}, drawings={"edm2": draw_drift})
