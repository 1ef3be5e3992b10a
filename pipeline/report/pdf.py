"""A figure as a PDF of a column's width: the values and marks of the SVG, drawn by Matplotlib.

Vega's converter takes fonts of the machine and writes resources in random order: its PDFs differ from run to run.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.typing import RcKeyType

from pipeline.report.figures import (
    DEFAULT,
    NO_VALUE,
    PALETTE,
    SMALL_SCALE,
    Chart,
    find_ticks,
    gather_rows,
    list_drawn,
    list_series,
)
from pipeline.report.panel import Panel, say_no_case
from pipeline.report.sweeps import Point
from pipeline.schema.figure import Figure

WIDTH = 234
"""Of a column, in points: 3.25 inches, that of ICML's two columns."""
_LEFT, _RIGHT, _ABOVE, _BELOW = 44, 8, 6, 34
"""Margins of the axes, in points; above them stand lines of text too."""
_HEIGHT, _LINE = 130, 11
"""Of the axes, and of a line of text, in points."""
_INNER = WIDTH - _LEFT - _RIGHT
"""Width of the axes."""
_COLUMNS = 4
"""Of the legend."""
_MARKERS = ["o", "s", "^", "P", "v", ">", "<"]
"""The shapes of the SVG."""
_DASHES: list[Any] = ["-", "--", "-.", ":", (0, (7, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3))]
_SETTINGS: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",  # Matplotlib brings it along, and takes its own copy
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "xtick.labelsize": 8,
    "xtick.major.width": 0.5,
    "ytick.labelsize": 8,
    "ytick.major.width": 0.5,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "text.parse_math": False,  # a dollar sign is a dollar sign
    "pdf.fonttype": 42,  # TrueType, of which the glyphs in use are embedded; journals refuse Type 3
    "pdf.compression": 0,  # what a compressed stream looks like depends on Python's zlib
}


def _place(figure: Figure, x: float) -> float:
    """Where x stands on the horizontal axis; rounded, because the last bits of a logarithm are the processor's own."""
    return round(math.log(x, figure.x.base), 6)


def _say_power(tick: float) -> str:
    """A power of ten, in characters of full size: a superscript would be too small at this width."""
    return "10" + f"{math.log10(tick):.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _set_axes(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    ticks = find_ticks(figure, points)
    labels = [f"{tick:g}" if figure.x.base == 2 else _say_power(tick) for tick in ticks]
    axes.set_xticks([_place(figure, tick) for tick in ticks], labels)
    axes.grid(axis="both" if figure.x.base == 10 else "y")


def _draw_series(figure: Figure, axes: Axes, means: Sequence[Chart], seeds: Sequence[Chart], index: int) -> None:
    """Single seeds, band, line and means of one series, told apart by colour, shape and dashes."""
    color, marker, dashes = (choices[index % len(choices)] for choices in (PALETTE, _MARKERS, _DASHES))
    single = [_place(figure, row["x"]) for row in seeds]
    axes.plot(single, [row["value"] for row in seeds], marker, color=color, markersize=1.8)
    line = [row for row in means if not row["default"]]
    x, mean, low, high = ([row[key] for row in line] for key in ("x", "mean", "low", "high"))
    x = [_place(figure, value) for value in x]
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    label = means[0]["series"] if figure.series else None
    axes.plot(x, mean, marker=marker, linestyle=dashes, color=color, label=label)


def _draw_default(figure: Figure, axes: Axes, rows: Sequence[Chart]) -> None:
    """PyTorch's default stands apart from the line, on a dashed rule."""
    x, mean = [_place(figure, row["x"]) for row in rows], [row["mean"] for row in rows]
    for place in x:
        axes.axvline(place, color="#000000", alpha=0.6, linewidth=0.6, linestyle="--")
    spread = [row["high"] - row["mean"] for row in rows]
    axes.errorbar(x, mean, spread, fmt="D", color="#000000", capsize=2, linewidth=0.8, label=DEFAULT)


def _draw_panel(figure: Figure, axes: Axes, panel: Panel, points: Sequence[Point]) -> None:
    axes.set_xlabel(figure.x.label)
    axes.set_ylabel(figure.y.label)
    axes.yaxis.set_label_coords(-(_LEFT - 12) / _INNER, 0.5)  # alike in all panels
    rows = gather_rows(figure, panel, points)
    if not rows[0]:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, NO_VALUE, transform=axes.transAxes, ha="center")
        return
    for index, series in enumerate(list_series(points)):
        means, seeds = ([row for row in found if row["series"] == series] for found in rows)
        if means:
            _draw_series(figure, axes, means, seeds, index)
    if default := [row for row in rows[0] if row["default"]]:
        _draw_default(figure, axes, default)
    _set_axes(figure, axes, points)


def _count_lines(figure: Figure, panel: Panel, points: Sequence[Point]) -> int:
    """Lines above the axes: the case, its scale, the legend."""
    entries = any(point.default for point in points) + (len(list_series(points)) if figure.series else 0)
    return 1 + (panel.scale == "embedded") + (figure.series is not None) + math.ceil(entries / _COLUMNS)


def _write_head(figure: Figure, axes: Axes, panel: Panel, lines: int) -> None:
    left, top = 4 - _LEFT, _HEIGHT + _ABOVE + (lines - 1) * _LINE
    axes.annotate(panel.title, (left, top), xycoords="axes points", fontsize=9)
    if panel.scale == "embedded":
        axes.annotate(SMALL_SCALE, (left, top - _LINE), xycoords="axes points")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(left / _INNER, 1), ncols=_COLUMNS, title=figure.series, alignment="left",
            frameon=False, borderpad=0, borderaxespad=0.3, labelspacing=0.2, columnspacing=1.2, handlelength=2.6,
        )  # fmt: skip


def draw_pdf(figure: Figure, panels: Sequence[Panel], points: Mapping[str, Sequence[Point]]) -> bytes:
    """The figure as a PDF, cases one below the other: the same bytes for the same values, on every machine.

    Args:
        points: the arms of each case's sweep.
    """
    points = {case: list_drawn(found) for case, found in points.items()}
    lines = [_count_lines(figure, panel, points[panel.case]) for panel in panels]
    tops = [count * _LINE + 2 * _ABOVE for count in lines]
    height = sum(top + _HEIGHT + _BELOW for top in tops) or 2 * _LINE
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever a matplotlibrc of the user's says
        mpl.rcParams.update(_SETTINGS)
        sheet = Sheet(figsize=(WIDTH / 72, height / 72))
        bottom = height
        for panel, count, top in zip(panels, lines, tops, strict=True):
            bottom -= top + _HEIGHT + _BELOW
            place = (_LEFT / WIDTH, (bottom + _BELOW) / height, _INNER / WIDTH, _HEIGHT / height)
            axes = sheet.add_axes(place)
            _draw_panel(figure, axes, panel, points[panel.case])
            _write_head(figure, axes, panel, count)
        if not panels:
            sheet.text(4 / WIDTH, 0.5, say_no_case(figure.study), va="center")
        file = io.BytesIO()
        about = {"Title": figure.title, "Creator": None, "Producer": None, "CreationDate": None}
        sheet.savefig(file, format="pdf", metadata=about)
    return file.getvalue()
