"""The section `full` of the page: gradients by what the network predicts, the bound's excess, and draws of the time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.report.charts import draw_lines, make_drawings
from pipeline.report.panel import Panel
from pipeline.report.views import Chart, Drawing, Section, Views
from pipeline.schema.curve import Point
from pipeline.schema.project import Project
from pipeline.studies.full.study import LEARNED, MIXTURE, RAMP, BoundRun, FullRecord, LearnedRun, RampRun

_TEXT = """
**A derived reading, consistent with the public reviews of FullDiffusion, and no reproduction: the paper's formulas are
not known here.** Below: the rms gradient of the negative ELBO by the network's output, at the exact optimum.
"""
_NOTES = """
**What it shows.** With f = (αx − x₀)/σ² as the output all coefficients are bounded at both ends of time. So are the
gradients (claim full9); the negative ELBO needs no truncation and is the entropy at the optimum (full7); exponential
solvers go from t = 1 to t = 0 with orders 1 and 2, the state in range (full1, full5). The first of them is DDPM's
ancestral step with its larger variance. f is one of a class: EDM's output times σ does the same.

**What it does not.** Truncated Euler-Maruyama on the same schedule is no worse in the samples' spread (full4). Of data
with atoms f has no bound, whatever the form (full10). No way to draw the times takes away the variance at a time
(full12), and trained networks show no gain from stratified times. A network trained by EDM's recipe samples at least as
well, its bound aside (full15). All of this is of one or two Gaussians on the line, with exact denoisers or a network of
two layers.

**What it follows.** The public reviews of FullDiffusion, a submission to ICLR 2025 that was rejected; the formulas are
derived here. Others: [VDM](https://arxiv.org/abs/2107.00630), [EDM](https://arxiv.org/abs/2206.00364), [soft
truncation](https://arxiv.org/abs/2106.05527), [flow matching](https://arxiv.org/abs/2210.02747).
"""
_STARTS = (3e-4, 3e-3, 3e-2, 0.3)
"""Middles of the decades of sigma."""


def _show_logarithms(chart: Chart | None) -> Chart | None:
    """The chart with both axes logarithmic."""
    if chart is not None:
        for axis in ("x", "y"):
            chart["encoding"][axis]["scale"] = {"type": "log", "padding": 14}
            chart["encoding"][axis]["axis"] = {"format": "~g", "labelOverlap": True, "labelSeparation": 6}
    return chart


def _list_gradients(panel: Panel) -> Iterator[Point]:
    """Over sigma, of what each network predicts, on the baseline's data."""
    for arm in panel.arms:
        run = panel.runs[arm]
        if not isinstance(run, BoundRun) or set(arm.overrides) - {"parametrisation"}:
            continue
        for seed, record in list(panel.completed(arm).items())[:1]:  # exact: the same for all seeds
            assert isinstance(record, FullRecord)
            for sigma, value in zip(record.sigmas, record.gradients, strict=True):
                yield Point(run.model.parametrisation, seed, sigma, value)


def _list_decades(panel: Panel) -> Iterator[Point]:
    """Each decade's part of the gap, of the networks trained by the bound alone."""
    for arm in panel.arms:
        run = panel.runs[arm]
        if not isinstance(run, LearnedRun) or run.model.loss != "bound" or set(arm.overrides) - {"parametrisation"}:
            continue
        for seed, record in panel.completed(arm).items():
            assert isinstance(record, FullRecord)
            for sigma, value in zip(_STARTS, record.decades, strict=True):
                yield Point(run.model.parametrisation, seed, sigma, value)


def _list_variances(panel: Panel) -> Iterator[Point]:
    """Over the batch, by how its times are drawn: measured, and by the formula."""
    for arm in panel.arms:
        run = panel.runs[arm]
        if not isinstance(run, RampRun) or set(arm.overrides) - {"draws", "batch"}:
            continue
        for name, key in ((run.times.draws, "variance"), (f"{run.times.draws}, formula", "variance_exact")):
            for seed, value in panel.values(arm, key).items():
                yield Point(name, seed, run.ramp.batch, value)


def _draw(name: str, title: str, points: Iterator[Point], horizontal: str, vertical: str) -> Sequence[Drawing]:
    ordered = sorted(points, key=lambda point: (point.arm, point.seed, point.at))
    return make_drawings(f"full-{name}", title, _show_logarithms(draw_lines(ordered, horizontal, vertical)))


def _show_full(_root: Path, _: Project, panels: Sequence[Panel]) -> Section:
    drawings: list[Drawing] = []
    for panel in panels:
        if panel.case == MIXTURE:
            drawings += _draw("gradients", "Gradient by the output", _list_gradients(panel), "sigma", "rms gradient")
        if panel.case == LEARNED:
            title = "Excess of the bound, by decade of sigma, of trained networks"
            drawings += _draw("decades", title, _list_decades(panel), "sigma", "nats above the entropy")
        if panel.case == RAMP:
            title = "Variance of a batch's loss, measured and by the formula"
            drawings += _draw("variances", title, _list_variances(panel), "batch", "variance")
    title = "Diffusion without time truncation: a derived reading"
    return Section("full", title, text=_TEXT, drawings=drawings, notes=_NOTES.strip().split("\n\n"))


def _describe(records: Sequence[FullRecord], _: bool) -> list[str]:
    """The protocol in words, a line each."""
    if any(record.std_error is not None for record in records):
        return ["times evenly spaced from 1 to 0, or between the truncations; an evaluation a step; nothing is sampled"]
    return []


VIEWS = Views(sections={"full": _show_full}, describe=_describe)
