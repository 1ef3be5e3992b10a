"""The text `level_awareness`: how much the diffusion models depend on the level, block by block, as Markdown."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from pipeline.report.markdown import align_table, escape_cell, format_summary
from pipeline.report.panel import EMBEDDED, Panel, count_runs, list_failed, list_gaps, say_absent, say_no_case
from pipeline.report.protocol import show_shared
from pipeline.report.statistics import summarise
from pipeline.schema.arm import BASELINE
from pipeline.schema.project import Project
from pipeline.schema.study import Run
from pipeline.studies.ddpm.study import DdpmRecord, DdpmRun, LevelAwareness

_HEAD = """## Level-awareness: how much each block of the diffusion models depends on the level

The relative change of the output of the norm that follows the timestep embedding, from level 0 to the last, when only
the level that the block is told changes and the convolution's output before the embedding is held fixed: 0 where the
norm loses the level. Initial: before the first step; trained: the last averaged weights. Share: the part of that norm's
variance that the level makes.
"""
_HEADER = ["#", "Arm", "n", "Initial", "over blocks", "Trained", "over blocks", "Share, initial", "Share, trained"]


def name_blocks(run: Run) -> list[str]:
    """The residual blocks of a U-Net in the order of its records, each with its image size; none of another network."""
    assert isinstance(run, DdpmRun)
    network = run.network
    if network.denoiser is not None or network.magnitude != "none":
        return []
    sizes = [run.training.image_size // 2**index for index in range(len(network.channel_multipliers))]
    down = [("down", size, index) for size in sizes for index in range(network.blocks)]
    middle = [("middle", sizes[-1], index) for index in range(2)]
    up = [("up", size, index) for size in reversed(sizes) for index in range(network.blocks + 1)]
    return [f"{part} {size}x{size}, {index + 1}" for part, size, index in (*down, *middle, *up)]


def _completed(panel: Panel, arm: str) -> list[DdpmRecord]:
    return [record for record in panel.completed(arm).values() if isinstance(record, DdpmRecord)]


def _average(found: Sequence[LevelAwareness | None], block: int) -> float | None:
    """The change of a block at the last level, mean over seeds; None where no seed has it."""
    values = [awareness.block_change[block][-1] for awareness in found if awareness is not None]
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def _show(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:.3f}" if value == 0 or value >= 0.0005 else f"{value:.0e}"


def _changes(panel: Panel, arm: str, blocks: Sequence[str]) -> list[tuple[float | None, float | None]]:
    """Initial and trained change of each block of an arm; none without a completed run.

    Raises:
        ValueError: the records have other blocks than the arm's network.
    """
    records = _completed(panel, arm)
    for awareness in [part for record in records for part in (record.initial, record.trained) if part is not None]:
        if len(awareness.block_change) != len(blocks):
            raise ValueError(
                f"records/ddpm/{panel.case}/{arm}: {len(awareness.block_change)} blocks, but its network has "
                f"{len(blocks)}: run `dvc repro`"
            )
    if not records:
        return []
    initial, trained = [record.initial for record in records], [record.trained for record in records]
    return [(_average(initial, block), _average(trained, block)) for block in range(len(blocks))]


def _show_range(values: Sequence[float | None]) -> str:
    present = [value for value in values if value is not None]
    return f"{_show(min(present))} to {_show(max(present))}" if present else "—"


def _arm_row(number: int, panel: Panel, arm: str, blocks: Sequence[str]) -> list[str]:
    cells = [str(number), f"`{arm}`", count_runs(panel, arm)]
    if not panel.completed(arm):
        return [*cells, say_absent(panel, arm), *["—"] * (len(_HEADER) - len(cells) - 1)]
    changes = _changes(panel, arm, blocks)
    initial, trained = ([change[moment] for change in changes] for moment in (0, 1))
    keys = ("change_initial", "change", "share_initial", "share")
    means = [format_summary(summarise(panel.values(arm, key)), 3) for key in keys]
    return [*cells, means[0], _show_range(initial), means[1], _show_range(trained), *means[2:]]


def _render_blocks(panel: Panel, numbers: Mapping[str, int], blocks: Mapping[str, Sequence[str]]) -> list[str]:
    """Block by block; arms of one architecture share a table."""
    parts = []
    for names in dict.fromkeys(tuple(blocks[arm]) for arm in numbers if panel.completed(arm)):
        if not names:
            continue
        arms = [arm for arm in numbers if panel.completed(arm) and tuple(blocks[arm]) == names]
        columns = [[f"{_show(a)} → {_show(b)}" for a, b in _changes(panel, arm, names)] for arm in arms]
        rows = [[name, *cells] for name, *cells in zip(names, *columns, strict=True)]
        header = ["Block", *(f"#{numbers[arm]}" for arm in arms)]
        parts += ["", "Initial → trained, by block; columns are the arms above.", "", align_table(header, rows, left=1)]
    return parts


def _notes(panel: Panel) -> list[str]:
    records = [record for arm in panel.arms for record in _completed(panel, arm)]
    notes = [EMBEDDED] if panel.scale == "embedded" else []
    if any(record.trained is not None for record in records):
        levels = show_shared([record.trained.levels[-1] for record in records if record.trained is not None])
        steps = show_shared([record.training_steps for record in records])
        notes.append(f"from level 0 to level {levels}; trained: after {steps} steps")
    return [*notes, *map(escape_cell, [*list_failed(panel, panel.arms), *list_gaps(panel, panel.arms)])]


def render_awareness(_: Project, panels: Sequence[Panel]) -> str:
    """For each case one row an arm, and below it one row a block; means over seeds."""
    parts = [_HEAD.rstrip()]
    for panel in panels:
        arms: list[str] = sorted(panel.arms, key=lambda arm: arm != BASELINE)
        blocks = {arm: name_blocks(panel.runs[arm]) for arm in arms}
        numbers = {arm: index for index, arm in enumerate(arms, start=1)}
        rows = [_arm_row(numbers[arm], panel, arm, blocks[arm]) for arm in arms]
        parts += ["", f"### {escape_cell(panel.title)}", "", align_table(_HEADER, rows)]
        parts += [*_render_blocks(panel, numbers, blocks), "", *(f"- {note}." for note in _notes(panel))]
    if not panels:
        parts += ["", say_no_case("ddpm")]
    parts += [
        "",
        "Values: means over n seeds, ± standard deviation (n − 1 in the denominator) of what is a mean over blocks; "
        "—: no value, as of imported weights before the first step, or of a network that is not our U-Net.",
    ]
    return "\n".join(parts) + "\n"
