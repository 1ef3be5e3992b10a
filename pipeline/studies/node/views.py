"""What the report shows of the classifiers with a neural ODE alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.report.charts import AFTER, BEFORE, draw_awareness, draw_sites, make_drawings
from pipeline.report.curves import list_curves
from pipeline.report.flops import FORWARD_AND_BACKWARD, forward_flops
from pipeline.report.panel import Panel
from pipeline.report.views import Drawing, ReadCurve, Section, SiteWords, Views
from pipeline.schema.architecture import Part
from pipeline.schema.project import Project
from pipeline.schema.study import Step
from pipeline.studies.node.protocol import describe
from pipeline.studies.node.study import NodeRecord, NodeRun

_NFE = ("nfe_train", "nfe_backward")
"""Curves of function evaluations: of the forward solve, and of the adjoint solve."""


def _change_sites(record: NodeRecord) -> dict[str, list[float | None]]:
    """The change at each site from t = 0 to 1, before and after training."""
    known = {BEFORE: record.initial, AFTER: record.trained}
    return {moment: [site[-1] for site in one.site_change] for moment, one in known.items() if one is not None}


def _name_sites(panel: Panel, arm: str) -> list[str]:
    """The sites of an arm's network by number; none without a completed run that has some."""
    trained = [record.trained for record in panel.completed(arm).values() if record.trained is not None]
    return [str(index + 1) for index in range(max((len(one.site_change) for one in trained), default=0))]


def _show_time(_root: Path, _: Project, panels: Sequence[Panel]) -> Section:
    """How much the ODE functions depend on time."""
    drawings: list[Drawing] = []
    for panel in panels:
        title = f"Time-awareness of each run: {panel.title}"
        drawings += make_drawings(f"time-{panel.case}", title, draw_awareness(panel))
        names: dict[str, list[str]] = {arm: _name_sites(panel, arm) for arm in panel.arms}
        title = f"Time-awareness, layer by layer: {panel.title}"
        chart = draw_sites(panel, _change_sites, names, "layer")
        drawings += make_drawings(f"time-sites-{panel.case}", title, chart)
    text = (
        "‖f(h, 1) − f(h, 0)‖ / ‖f(h, 0)‖ of the ODE function on features of test images, before the first step and "
        "after the last. By layer: the same of the normalised sum after each convolution with a timestep embedding."
    )
    return Section("time_awareness", "Time-awareness of the NODE study", text=text, drawings=drawings)


def _show_nfe(root: Path, project: Project, panels: Sequence[Panel]) -> Section:
    """What the solver needed during the training."""
    text = "Function evaluations of a solve, mean over an epoch's batches; backward: of the adjoint solve."
    drawings = [drawing for panel in panels for drawing in list_curves(root, project, panel, _NFE)]
    return Section("nfe", "NFE over training (NODE)", text=text, drawings=drawings)


def count_training(
    run: NodeRun, parts: Sequence[Part], images: int, nfe: Sequence[float], nfe_backward: Sequence[float]
) -> float:
    """FLOPs of a training, without its passes over the test split.

    Args:
        images: of the training split.
        nfe: mean evaluations of the forward solve, epoch by epoch; none without an ODE block.
        nfe_backward: the same of the adjoint solve, each with its gradient; none with the direct gradient, which goes
            back through the evaluations of the forward solve.
    """
    found: Mapping[str, float] = {part.name: forward_flops(part, images, run.training.batch_size) for part in parts}
    outside = sum(flops for name, flops in found.items() if name != "field")
    solve = sum(nfe) * found.get("field", 0.0)
    adjoint = FORWARD_AND_BACKWARD * sum(nfe_backward) * found.get("field", 0.0)
    back = adjoint if run.network.gradient == "adjoint" else (FORWARD_AND_BACKWARD - 1) * solve
    return FORWARD_AND_BACKWARD * run.training.epochs * outside + solve + back


def _count_flops(
    project: Project, run: NodeRun, _: NodeRecord, parts: Sequence[Part], curve: ReadCurve
) -> Mapping[Step, float]:
    dataset = project.case(run.study, run.case).dataset
    assert dataset is not None
    forward, backward = (curve(name) for name in _NFE)
    return {"train": count_training(run, parts, dataset.train_images, forward, backward)}


VIEWS = Views(
    describe=describe,
    count_flops=_count_flops,
    sections={"time_awareness": _show_time, "nfe": _show_nfe},
    curves=_NFE,
    site=SiteWords(
        study="NODE",
        place="The first of {sites} sites of the ODE function f: Norm – Act – Site – Norm – Act – Site – Norm.",
        part="field",
        label="f",
    ),
)
