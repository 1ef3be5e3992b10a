"""A figure as a PDF of a column's width: the values and marks of the SVG, drawn by Matplotlib.

Vega's converter takes fonts of the machine and writes resources in random order: its PDFs differ from run to run.
"""

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.typing import RcKeyType

from pipeline.report.figures import (
    DEFAULT,
    NO_VALUE,
    SMALL_SCALE,
    find_drawn,
    find_ticks,
    gather_rows,
    list_series,
    title_series,
)
from pipeline.report.forest import gather_arms, list_places
from pipeline.report.panel import Panel, say_no_case, select_panels
from pipeline.report.scales import find_log_ticks
from pipeline.report.sweeps import Point
from pipeline.report.vega import PALETTE, Chart
from pipeline.schema.figure import Arms, Figure, Sweep

WIDTH = 234
"""Of a column, in points: 3.25 inches, that of ICML's two columns."""
_LEFT, _RIGHT, _ABOVE, _BELOW = 54, 8, 6, 34
"""Margins of the axes, in points; above them stand lines of text too."""
_HEIGHT, _LINE = 130, 11
"""Of the axes, and of a line of text, in points."""
_INNER = WIDTH - _LEFT - _RIGHT
"""Width of the axes."""
_COLUMNS = 3
"""Of the legend."""
_LETTERS, _GAP = 24, 4
"""Of a line of a row's label; and points between rows."""
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


@dataclass(frozen=True)
class _Layout:
    """Of one case's axes, in points."""

    left: int
    height: int
    above: int
    """Room for lines of text."""


def _log(value: float, base: float = 10) -> float:
    """A logarithm, rounded, because its last bits are the processor's own."""
    return round(math.log(value, base), 6)


def _place_x(figure: Sweep, x: float) -> float:
    """Where x stands on the horizontal axis of a sweep."""
    return x if figure.x.base is None else _log(x, figure.x.base)


def _place(figure: Figure, value: float) -> float:
    """Where a value stands on the axis of the quantity."""
    return _log(value) if figure.quantity.scale == "log" else value


def _say_power(tick: float) -> str:
    """A power of ten, in characters of full size: a superscript would be too small at this width."""
    return "10" + f"{math.log10(tick):.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _set_quantity(figure: Figure, axes: Axes, means: Sequence[Chart], seeds: Sequence[Chart]) -> None:
    """Ticks and limits of the axis of the quantity where it is logarithmic, and the figure's own line."""
    vertical = isinstance(figure, Sweep)
    if figure.quantity.scale == "log":
        ticks, ends = find_log_ticks(figure, means, seeds)
        low, high = (_place(figure, end) for end in ends)
        margin = 0.05 * (high - low)
        set_ticks = axes.set_yticks if vertical else axes.set_xticks
        set_ticks([_place(figure, tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
        (axes.set_ylim if vertical else axes.set_xlim)(low - margin, high + margin)
    if figure.line is not None:
        place = _place(figure, figure.line.value)
        draw = axes.axhline if vertical else axes.axvline
        draw(place, color="#000000", alpha=0.6, linewidth=0.6, linestyle="--")
        at = (1, place) if vertical else (place, 1)
        coordinates = ("axes fraction", "data") if vertical else ("data", "axes fraction")
        axes.annotate(
            figure.line.label, at, xytext=(0, 2), xycoords=coordinates, textcoords="offset points",
            ha="right" if vertical else "center", va="bottom",
        )  # fmt: skip


def _set_x(figure: Sweep, axes: Axes, points: Sequence[Point]) -> None:
    """Ticks of x, and the grid."""
    if figure.x.base is None:
        axes.locator_params(axis="x", steps=[1, 2, 5, 10])
    else:
        ticks = find_ticks(figure, points)
        labels = [f"{tick:g}" if figure.x.base == 2 else _say_power(tick) for tick in ticks]
        axes.set_xticks([_place_x(figure, tick) for tick in ticks], labels)
    axes.grid(axis="y" if figure.x.base == 2 else "both")


def _draw_series(
    figure: Sweep, axes: Axes, means: Sequence[Chart], seeds: Sequence[Chart], index: int, named: bool
) -> None:
    """Single seeds, bars, line and means of one series, told apart by colour, shape and dashes."""
    color, marker, dashes = (choices[index % len(choices)] for choices in (PALETTE, _MARKERS, _DASHES))
    single = [_place_x(figure, row["x"]) for row in seeds]
    axes.plot(single, [_place(figure, row["value"]) for row in seeds], marker, color=color, markersize=1.8)
    line = [row for row in means if not row["default"]]
    x = [_place_x(figure, row["x"]) for row in line]
    mean = [_place(figure, row["mean"]) for row in line]
    for row in (row for row in line if row["low"] is not None):
        ends = [_place(figure, row[key]) for key in ("low", "high")]
        axes.plot([_place_x(figure, row["x"])] * 2, ends, color=color, alpha=0.5, linewidth=0.8)
    axes.plot(x, mean, marker=marker, linestyle=dashes, color=color, label=means[0]["series"] if named else None)


def _draw_default(figure: Sweep, axes: Axes, rows: Sequence[Chart], ticks: Sequence[float]) -> None:
    """PyTorch's default stands apart from the line, on a dashed rule."""
    x = [_place_x(figure, row["x"]) for row in rows]
    for place, row in zip(x, rows, strict=True):
        axes.axvline(place, color="#000000", alpha=0.6, linewidth=0.6, linestyle="--")
        if row["low"] is not None:
            axes.plot(
                [place] * 2, [_place(figure, row[key]) for key in ("low", "high")], color="#000000", linewidth=0.8
            )
    axes.plot(x, [_place(figure, row["mean"]) for row in rows], "D", color="#000000")
    ends = [_place_x(figure, tick) for tick in (ticks[0], ticks[-1])]
    is_right = x[-1] > sum(ends) / 2  # the words stand on the side with more room
    axes.annotate(
        DEFAULT, (x[-1], 0), xytext=(-3 if is_right else 3, 3), xycoords=("data", "axes fraction"),
        textcoords="offset points", ha="right" if is_right else "left",
    )  # fmt: skip


def _draw_sweep(figure: Sweep, axes: Axes, panel: Panel, points: Sequence[Point]) -> None:
    axes.set_xlabel(figure.x.label)
    axes.set_ylabel(figure.y.label)
    axes.yaxis.set_label_coords(-(_LEFT - 12) / _INNER, 0.5)  # alike in all panels
    rows = gather_rows(figure, panel, points)
    if not rows[0]:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, NO_VALUE, transform=axes.transAxes, ha="center")
        return
    for index, series in enumerate(names := list_series(figure, points)):
        means, seeds = ([row for row in found if row["series"] == series] for found in rows)
        if means:
            _draw_series(figure, axes, means, seeds, index, named=len(names) > 1)
    if default := [row for row in rows[0] if row["default"]]:
        ticks = find_ticks(figure, points) if figure.x.base else sorted(point.x for point in points)
        _draw_default(figure, axes, default, ticks)
    _set_x(figure, axes, points)
    _set_quantity(figure, axes, *rows)


def _wrap_label(label: str) -> list[str]:
    """A row's label in lines of at most about half of the width."""
    return textwrap.wrap(label, _LETTERS) or [label]


def _measure_labels(figure: Arms) -> int:
    """Width of the widest label, in whole points."""
    found = [
        (line, "bold" if arm is None else "normal") for label, arm in list_places(figure) for line in _wrap_label(label)
    ]
    widths = [TextPath((0, 0), line, 8, FontProperties(weight=weight)).get_extents().width for line, weight in found]
    return math.ceil(max(widths))


def _draw_forest(figure: Arms, axes: Axes, panel: Panel) -> None:
    """Single seeds, mean and interval of each arm, from top to bottom."""
    means, seeds, absent = gather_arms(figure, panel)
    lines = [_wrap_label(label) for label, _ in list_places(figure)]
    tops = list(accumulate((_LINE * len(found) + _GAP for found in lines), initial=0))
    centres = [-(top + bottom) / 2 for top, bottom in pairwise(tops)]
    axes.set(ylim=(-tops[-1], 0))
    axes.set_xlabel(figure.x.label, loc="right")  # a long one has the room below the rows' labels
    axes.set_yticks(centres, ["\n".join(found) for found in lines], ma="right")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for tick, (_, arm) in zip(axes.get_yticklabels(), list_places(figure), strict=True):
        tick.set_fontweight("bold" if arm is None else "normal")
    for row in absent:
        axes.text(0.02, centres[row["place"]], row["says"], transform=axes.get_yaxis_transform(), va="center")
    if not means:
        axes.set(xticks=[])
        return
    y = [centres[row["place"]] for row in seeds]
    axes.plot([_place(figure, row["value"]) for row in seeds], y, "o", color=PALETTE[0], markersize=1.8)
    for row in means:
        if row["low"] is not None:
            ends = [_place(figure, row[key]) for key in ("low", "high")]
            ticks = [1] if row["cut"] else [0, 1]  # an end that is cut off has none
            axes.plot(ends, [centres[row["place"]]] * 2, "|-", color=PALETTE[0], markersize=4, markevery=ticks)
    y = [centres[row["place"]] for row in means]
    axes.plot([_place(figure, row["mean"]) for row in means], y, "o", color=PALETTE[0])
    axes.grid(axis="x")
    _set_quantity(figure, axes, means, seeds)


def _write_head(figure: Figure, axes: Axes, panel: Panel, layout: _Layout) -> None:
    start, top = 4 - layout.left, layout.height + layout.above - _ABOVE - _LINE
    axes.annotate(panel.title, (start, top), xycoords="axes points", fontsize=9)
    if panel.scale == "embedded":
        axes.annotate(SMALL_SCALE, (start, top - _LINE), xycoords="axes points")
    if isinstance(figure, Sweep) and axes.get_legend_handles_labels()[1]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(start / _INNER, 1), ncols=_COLUMNS, title=title_series(figure),
            alignment="left", frameon=False, borderpad=0, borderaxespad=0.3, labelspacing=0.2, columnspacing=0.8,
            handlelength=2.0,
        )  # fmt: skip


def _lay_out(figure: Figure, panel: Panel, points: Sequence[Point]) -> _Layout:
    """Above the axes stand the case, its scale, and of a sweep the legend, of a forest plot the label of its line."""
    lines = 1 + (panel.scale == "embedded")
    if isinstance(figure, Sweep):
        if (entries := len(list_series(figure, points))) > 1:
            lines += 1 + math.ceil(entries / _COLUMNS)
        return _Layout(_LEFT, _HEIGHT, lines * _LINE + 2 * _ABOVE)
    lines += figure.line is not None
    height = sum(_LINE * len(_wrap_label(label)) + _GAP for label, _ in list_places(figure))
    return _Layout(_measure_labels(figure) + 10, height, lines * _LINE + 2 * _ABOVE)


def draw_pdf(figure: Figure, panels: Sequence[Panel]) -> bytes:
    """The figure as a PDF, cases one below the other: the same bytes for the same values, on every machine.

    Args:
        panels: of all cases on which its study runs.
    """
    about = {"Title": figure.title, "Creator": None, "Producer": None, "CreationDate": None}
    return _draw(figure, select_panels(panels, figure.cases), format="pdf", metadata=about)


def draw_png(figure: Figure, panels: Sequence[Panel], width: int) -> bytes:
    """The figure's first case as a PNG so many pixels wide: the same bytes on every machine, like the PDF."""
    return _draw(figure, select_panels(panels, figure.cases)[:1], format="png", dpi=72 * width / WIDTH)


def _draw(figure: Figure, panels: Sequence[Panel], **saved: Any) -> bytes:
    """Draw these cases, and save them as a file.

    Args:
        saved: format and more of the file.
    """
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever a matplotlibrc of the user's says
        mpl.rcParams.update(_SETTINGS)
        points = [find_drawn(figure, panel) if isinstance(figure, Sweep) else [] for panel in panels]
        layouts = [_lay_out(figure, panel, found) for panel, found in zip(panels, points, strict=True)]
        height = sum(layout.above + layout.height + _BELOW for layout in layouts) or 2 * _LINE
        sheet = Sheet(figsize=(WIDTH / 72, height / 72))
        bottom = height
        for panel, found, layout in zip(panels, points, layouts, strict=True):
            bottom -= layout.above + layout.height + _BELOW
            inner = WIDTH - layout.left - _RIGHT
            place = (layout.left / WIDTH, (bottom + _BELOW) / height, inner / WIDTH, layout.height / height)
            axes = sheet.add_axes(place)
            if isinstance(figure, Sweep):
                _draw_sweep(figure, axes, panel, found)
            else:
                _draw_forest(figure, axes, panel)
            _write_head(figure, axes, panel, layout)
        if not panels:
            sheet.text(4 / WIDTH, 0.5, say_no_case(figure.study, figure.cases), va="center")
        file = io.BytesIO()
        sheet.savefig(file, **saved)
    return file.getvalue()
