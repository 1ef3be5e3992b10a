"""The text `theory`: how much untrained ODE functions depend on time, as Markdown."""

from collections.abc import Sequence
from statistics import fmean

from pipeline.report.markdown import align_table
from pipeline.report.panel import Panel, list_gaps
from pipeline.report.views import Views
from pipeline.schema.architecture import EXACT
from pipeline.schema.arm import BASELINE
from pipeline.schema.project import Project
from pipeline.studies.theory.study import Cell, Features, TheoryRecord, TheoryRun

_COLUMNS = (("none", "zeros"), ("none", "circular"), ("linear", "zeros"), ("linear", "circular"))
_TIME = {"concat": "concatenated channel", "linear": "t v", "mlp": "MLP(t)"}
_TITLE = "## Theory: how much an untrained ODE function depends on time"
_HEAD = """
Relative change of the function from t = 0 to t = 1, ‖f(h, 1) − f(h, 0)‖ / ‖f(h, 0)‖, at PyTorch's initialisation, in
float64, mean over {seeds} seeds of the weights; C = {channels}, {size}x{size} pixels, {images} random feature maps.
**0** marks a cell where equation 5 of the paper says that t cancels exactly, and in brackets what was measured there:
rounding. Batch and instance normalisation are "G = C": each channel is normalised by itself. Two things survive them: a
positional embedding (remedy 1), and the border of a zero-padded concatenated channel, where the kernel sees fewer
taps, so that v is smaller there; with circular padding there is no border, and t is lost.
"""


def _label(cell: Cell, channels: int) -> str:
    if cell.groups is None:
        return cell.norm
    return f"group, G = {cell.groups} (C/{channels // cell.groups})"


def _show(cells: Sequence[Cell]) -> str:
    """One design, with a cell a seed."""
    changes = [cell.change for cell in cells]
    if cells[0].vanishes:
        return f"**0** ({max(changes):.0e})" if max(changes) < EXACT else f"{max(changes):.1e}, not 0!"
    return f"{fmean(changes):.4f}"


def _render_arm(records: Sequence[TheoryRecord], features: Features) -> list[str]:
    """One table; a row is a way to embed time and a normalisation."""
    rows: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for cells in zip(*(record.cells for record in records), strict=True):
        row = rows.setdefault((_TIME[cells[0].time], _label(cells[0], features.channels)), {})
        row[cells[0].position, cells[0].padding] = _show(cells)
    shown = [[*names, *(row[column] for column in _COLUMNS)] for names, row in rows.items()]
    header = ["Time", "Normalisation", "zero padding", "circular", "p, zero padding", "p, circular"]
    head = _HEAD.format(seeds=len(records), **features.model_dump())
    return [head, align_table(header, shown), "", "p: positional timestep embedding t p added."]


def render_theory(_: Project, panels: Sequence[Panel]) -> str:
    """A table for each arm with a completed run, the baseline's first."""
    parts = [_TITLE]
    for panel in panels:
        for arm in sorted(panel.arms, key=lambda arm: arm != BASELINE):
            run = panel.runs[arm]
            assert isinstance(run, TheoryRun)
            parts += [f"\n### `{arm}`"] if arm != BASELINE else []
            if completed := list(panel.completed(arm).values()):
                parts += _render_arm(completed, run.design)
            parts += ["", *(f"- {line}." for line in gaps)] if (gaps := list_gaps(panel, [arm])) else []
    return "\n".join(parts) + "\n"


VIEWS = Views(texts={"theory": render_theory})
