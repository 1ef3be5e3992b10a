"""The table `theory` as Markdown."""

from statistics import fmean

from pipeline.report.markdown import align_table
from pipeline.schema.theory import EXACT, Cell, Theory

_COLUMNS = (("none", "zeros"), ("none", "circular"), ("linear", "zeros"), ("linear", "circular"))
_TIME = {"concat": "concatenated channel", "linear": "t v", "mlp": "MLP(t)"}
_HEAD = """## Theory: how much an untrained ODE function depends on time

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


def _show(cell: Cell) -> str:
    largest = max(cell.change)
    if cell.vanishes:
        return f"**0** ({largest:.0e})" if largest < EXACT else f"{largest:.1e}, not 0!"
    return f"{fmean(cell.change):.4f}"


def render_theory(theory: Theory) -> str:
    """One table; a row is a way to embed time and a normalisation."""
    rows: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for cell in theory.cells:
        row = rows.setdefault((_TIME[cell.time], _label(cell, theory.channels)), {})
        row[cell.position, cell.padding] = _show(cell)
    shown = [[*names, *(row[column] for column in _COLUMNS)] for names, row in rows.items()]
    header = ["Time", "Normalisation", "zero padding", "circular", "p, zero padding", "p, circular"]
    head = _HEAD.format(
        seeds=len(theory.cells[0].change), channels=theory.channels, size=theory.size, images=theory.images
    )
    return f"{head}\n{align_table(header, shown)}\n\np: positional timestep embedding t p added.\n"
