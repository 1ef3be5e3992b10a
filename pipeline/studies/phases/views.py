"""The section `phases` of the page: overlaps over the dilated time, and what the study shows."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.report.charts import draw_lines, make_drawings
from pipeline.report.panel import Panel
from pipeline.report.views import Drawing, Section, Views
from pipeline.schema.curve import Point
from pipeline.schema.project import Project
from pipeline.studies.phases.study import OVERLAPS, PhasesRecord

_TEXT = """
A sample takes its side where u√d is of the order 1, and a U-turn from there comes back to either mode by the law of the
posterior, in any dimension (claims p2 and p3). A two-layer autoencoder, trained at each time of a dilated clock, is the
Bayes denoiser: the first phase learns the weight of the modes, by its bias, and the second their spread, by c (p1).
Whether training times that resolve the first phase find the weight better at a fixed budget is claim p4; it depends on
the network and its learning rate (docs/study-phases.md has the numbers).

It does not show images (the case `digits` is off): the data are two Gaussians, and the network of the budget has the
linear part of the posterior mean given. Of the overlaps omega and bias are identified from s = 0.25 to 0.5 alone:
before, only m tanh(bias) is, and later the side of a sample is plain, so that they may be anything that saturates.

It follows [Aranguri and Insulla 2024](https://arxiv.org/abs/2412.07972). A clock that does not resolve u of the order
1/√d, where a failure would be the embedding's, is an arm that the default leaves out (`clock=plain`).
"""
_NAMES = ("c", "m", "omega", "bias")
_LAST = 1.0
"""Dilated time up to which omega and bias are drawn; beyond they say nothing."""


def _draw_overlaps(record: PhasesRecord) -> list[Drawing]:
    """Learned and exact overlaps over the dilated time."""
    drawings = []
    for index, name in enumerate(_NAMES):
        points = [
            Point(kind, 0, s, row[index])
            for kind, rows in (("exact", record.exact), ("learned", record.learned))
            for s, row in zip(record.s, rows, strict=True)
            if index < 2 or s <= _LAST
        ]
        chart = draw_lines(points, "dilated time s: 1 ends the first phase", name)
        drawings += make_drawings(f"phases-{name}", f"Overlap {name} over the dilated time", chart)
    return drawings


def _show_phases(_root: Path, _: Project, panels: Sequence[Panel]) -> Section:
    records = [
        record
        for panel in panels
        if panel.case == OVERLAPS
        for record in list(panel.completed("baseline").values())[:1]
        if isinstance(record, PhasesRecord)
    ]
    drawings = [drawing for record in records for drawing in _draw_overlaps(record)]
    return Section("phases", "Phases of diffusion", text=_TEXT, drawings=drawings)


VIEWS = Views(sections={"phases": _show_phases})
