"""What the report shows of the diffusion models alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.report.charts import AFTER, BEFORE, draw_awareness, draw_lines, draw_sites, make_drawings
from pipeline.report.flops import FORWARD_AND_BACKWARD, forward_flops
from pipeline.report.panel import Panel
from pipeline.report.views import Drawing, ReadCurve, Section, SiteWords, Views
from pipeline.schema.architecture import Part
from pipeline.schema.curve import Point
from pipeline.schema.diffusion import Sampling
from pipeline.schema.project import Project
from pipeline.schema.study import Step
from pipeline.studies.ddpm.awareness_text import name_blocks, render_awareness
from pipeline.studies.ddpm.protocol import describe, find_differences
from pipeline.studies.ddpm.study import DdpmRecord, DdpmRun


def _change_blocks(record: DdpmRecord) -> dict[str, list[float | None]]:
    """The change in each block from level 0 to the last, before and after training."""
    known = {BEFORE: record.initial, AFTER: record.trained}
    return {moment: [block[-1] for block in one.block_change] for moment, one in known.items() if one is not None}


def _draw_levels(_: Project, panels: Sequence[Panel]) -> list[Drawing]:
    drawings: list[Drawing] = []
    for panel in panels:
        title = f"Level-awareness of each run: {panel.title}"
        drawings += make_drawings(f"level-{panel.case}", title, draw_awareness(panel))
        names: dict[str, list[str]] = {arm: name_blocks(panel.runs[arm]) for arm in panel.arms}
        title = f"Level-awareness, block by block: {panel.title}"
        chart = draw_sites(panel, _change_blocks, names, "block")
        drawings += make_drawings(f"level-blocks-{panel.case}", title, chart)
    return drawings


def _list_snapshots(panel: Panel) -> list[Point]:
    return [
        Point(arm, seed, snapshot.step, snapshot.scores.fid)
        for arm in panel.arms
        for seed, record in panel.completed(arm).items()
        for snapshot in record.snapshots
    ]


def _list_lengths(panel: Panel) -> list[Point]:
    """FID by the length of the average, of arms with ema_curve."""
    return [
        Point(arm, seed, one.length, one.scores.fid)
        for arm in panel.arms
        for seed, record in panel.completed(arm).items()
        for one in record.lengths
    ]


def _show_snapshots(_root: Path, _: Project, panels: Sequence[Panel]) -> Section:
    """FID over training, and over the length of the average where that was asked for."""
    drawings: list[Drawing] = []
    for panel in panels:
        chart = draw_lines(_list_snapshots(panel), "training step", "FID")
        drawings += make_drawings(f"snapshots-{panel.case}", f"FID over training: {panel.title}", chart)
        chart = draw_lines(_list_lengths(panel), "length of the average, as a part of the training", "FID")
        title = f"FID over the length of the weights' average: {panel.title}"
        drawings += make_drawings(f"lengths-{panel.case}", title, chart)
    text = "Of the first sample set of each snapshot."
    return Section("snapshots", "FID over training (DDPM)", text=text, drawings=drawings)


def count_training(run: DdpmRun, parts: Sequence[Part]) -> float:
    """FLOPs of a training."""
    batch = run.training.batch_size
    step = sum(forward_flops(part, batch, batch) for part in parts)
    return FORWARD_AND_BACKWARD * run.training.steps * step


def count_sampling(parts: Sequence[Part], record: DdpmRecord, batch_size: int) -> float:
    """FLOPs of all sample sets, those of its snapshots included."""
    # The last snapshot is the first of the sets.
    sets = len(record.sets) + len(record.snapshots) - 1 + len(record.lengths)
    passes = sets * record.protocol.sampling_steps
    return passes * sum(forward_flops(part, record.protocol.images, batch_size) for part in parts)


def _count_flops(
    project: Project, run: DdpmRun, record: DdpmRecord, parts: Sequence[Part], _: ReadCurve
) -> Mapping[Step, float]:
    """FLOPs of training and sampling; of imported weights, of the sampling alone."""
    sampling = project.later(run.study, run.case)["sampling"]
    assert isinstance(sampling, Sampling)
    training: dict[Step, float] = {"train": count_training(run, parts)} if record.training_steps else {}
    return {**training, "sample": count_sampling(parts, record, sampling.batch_size)}


VIEWS = Views(
    describe=describe,
    find_differences=find_differences,
    count_flops=_count_flops,
    texts={"level_awareness": render_awareness},
    drawings={"level_awareness": _draw_levels},
    sections={"snapshots": _show_snapshots},
    curves=("fid",),
    site=SiteWords(
        study="DDPM",
        place="The site of the first of {sites} residual blocks: Norm – Act – Site – Norm – Act – Conv. t is the "
        "level; e_t, its embedding, is the same for all blocks.",
        part="unet",
        label="U-Net",
    ),
)
