"""Axes of measured quantities: what has a place on them, and ticks of logarithmic ones. SVG and PDF share them."""

import math
from collections.abc import Sequence

from pipeline.report.vega import Chart
from pipeline.schema.figure import Figure

DROPPED = "0 or less: not drawn"
_MOST_POWERS = 4
"""Of ten, between which 2 and 5 have ticks too."""


def fit_rows(figure: Figure, means: Sequence[Chart], seeds: Sequence[Chart]) -> tuple[list[Chart], list[Chart]]:
    """The rows with a place on the axis. On a logarithmic one 0 has none: bars are cut at a tenth of the least mean.

    A row gets `cut`, whether its bar is; `low` is where it begins, `from` where it would.
    """
    if figure.quantity.scale == "linear":
        return [row | {"cut": False, "from": row["low"]} for row in means], list(seeds)
    means = [row for row in means if row["mean"] > 0]
    floor = min((row["mean"] for row in means), default=1.0) / 10
    fitted = []
    for row in means:
        cut = row["low"] is not None and row["low"] < floor
        fitted.append({**row, "low": floor if cut else row["low"], "cut": cut, "from": row["low"]})
    return fitted, [row for row in seeds if row["value"] > 0]


def find_powers(low: float, high: float) -> range:
    """Exponents of the powers of ten around a range."""
    return range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)


def find_log_ticks(
    figure: Figure, means: Sequence[Chart], seeds: Sequence[Chart]
) -> tuple[list[float], tuple[float, float]]:
    """Ticks of the logarithmic axis, at least two, and its ends, which have all values between them."""
    values = [row["value"] for row in seeds] + ([figure.line.value] if figure.line else [])
    values += [row[key] for row in means for key in ("low", "mean", "high") if row[key] is not None]
    low, high = min(values), max(values)
    powers = find_powers(low, high)
    steps = (1,) if len(powers) > _MOST_POWERS else (1, 2, 5)
    around = [float(f"{step}e{power}") for power in range(powers.start - 1, powers.stop + 1) for step in steps]
    ticks = [tick for tick in around if low <= tick <= high]
    if len(ticks) < 2:
        low, high = max(tick for tick in around if tick <= low), min(tick for tick in around if tick >= high)
        ticks = [tick for tick in around if low <= tick <= high]
    return ticks, (low, high)


def scale_quantity(figure: Figure, field: str, means: Sequence[Chart], seeds: Sequence[Chart]) -> Chart:
    """The axis of the quantity, as an encoding of Vega-Lite."""
    encoding = {"field": field, "type": "quantitative", "title": figure.quantity.label}
    if figure.quantity.scale == "linear" or not means:
        return {**encoding, "scale": {"zero": False, "padding": 8}}
    ticks, ends = find_log_ticks(figure, means, seeds)
    scale = {"type": "log", "domain": list(ends), "nice": False, "padding": 8}
    return {**encoding, "scale": scale, "axis": {"values": ticks, "format": "~g"}}


def mark_line(figure: Figure, quantity: Chart, axis: str) -> list[Chart]:
    """The dashed line of the figure with its label, as layers; none if it has none.

    Args:
        quantity: its axis, as an encoding.
        axis: `x` or `y`.
    """
    if figure.line is None:
        return []
    data = {"values": [{"line": figure.line.value, "label": figure.line.label}]}
    encoding = {axis: {**quantity, "field": "line"}, "color": {"value": "#000000"}}
    place = {"x": "width", "align": "right", "dy": -4} if axis == "y" else {"y": 0, "align": "center", "dy": -4}
    text = {"type": "text", "baseline": "bottom", "fontSize": 12, **place}
    return [
        {"data": data, "mark": {"type": "rule", "strokeDash": [5, 4], "opacity": 0.6}, "encoding": encoding},
        {"data": data, "mark": text, "encoding": {**encoding, "text": {"field": "label"}}},
    ]
