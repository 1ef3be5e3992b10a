"""What the page shows of the linear networks: singular values and rates over the training, and a phase diagram."""

from collections.abc import Iterator, Sequence
from math import hypot
from pathlib import Path
from statistics import fmean

from pipeline.report.charts import fade_hidden, hide_series, make_drawings
from pipeline.report.panel import Panel
from pipeline.report.vega import PALETTE
from pipeline.report.views import Chart, Drawing, Section, Views
from pipeline.schema.arm import BASELINE
from pipeline.schema.project import Project
from pipeline.studies.linear.study import LinearNetwork, LinearRecord, LinearRun

_ID = "linear_networks"
_TITLE = "Linear networks: lazy below a threshold, balanced above"
_HEIGHT, _CELL = 280, 56
"""Pixels of a chart, and of a cell of the phase diagram."""
_DESCENT, _FORMULA = "gradient descent", "mixed formula"
_LEAST = 0.02
"""Singular values below this share of the threshold are not drawn: a logarithmic axis shows little else."""
_PAPER = (
    "After Tu, Aranguri and Jacot, *Mixed dynamics in linear networks: unifying the lazy and active regimes* (NeurIPS "
    "2024), [arXiv 2405.17580](https://arxiv.org/abs/2405.17580); smaller matrices than theirs, nothing of their code."
)
_NOT_SHOWN = (
    "**It does not show** what nonlinear networks do, nor the paper's d = 500 (an arm that is off in params.yaml); one "
    "cost is tried, the squared distance to a noisy matrix, and one rank."
)


def _network(panel: Panel, arm: str = BASELINE) -> LinearNetwork:
    run = panel.runs[arm]
    assert isinstance(run, LinearRun)
    return run.network


def _log(field: str, title: str) -> Chart:
    """A logarithmic axis."""
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "nice": False, "padding": 8},
        "axis": {"format": "~g"},
    }


def _chart(layers: Sequence[Chart]) -> Chart:
    wide = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    return {**wide, "height": _HEIGHT, "layer": list(layers)}


def _list_values(record: LinearRecord, least: float) -> Iterator[Chart]:
    """Singular values by both, a row each; those too small to be drawn are left out."""
    for way, lists in ((_DESCENT, record.singular), (_FORMULA, record.singular_formula)):
        for moment, values in zip(record.moments, lists, strict=True):
            for index, value in enumerate(values, start=1):
                if value > least:
                    yield {"series": way, "step": moment, "index": index, "value": value}


def draw_values(record: LinearRecord, threshold: float) -> Chart | None:
    """Singular values over the steps: the formula's lines below the dashes of gradient descent, and the threshold."""
    ways = [_FORMULA, _DESCENT]
    rows = sorted(_list_values(record, _LEAST * threshold), key=lambda row: ways.index(row["series"]))
    if not rows:
        return None
    x = {"field": "step", "type": "quantitative", "title": "steps of gradient descent"}
    encoding = {
        "x": x,
        "y": _log("value", "singular value of A"),
        "detail": {"field": "index"},
        "opacity": fade_hidden(1),
        "color": {
            "field": "series",
            "type": "nominal",
            "title": None,
            "scale": {"domain": ways, "range": [PALETTE[5], PALETTE[6]]},
            "legend": {"orient": "top"},
        },
        "strokeDash": {"field": "series", "type": "nominal", "scale": {"domain": ways, "range": [[1, 0], [5, 4]]}},
        "strokeWidth": {"condition": {"test": f"datum.series === '{_FORMULA}'", "value": 4}, "value": 1.5},
        "tooltip": [{"field": field} for field in ("series", "index", "step", "value")],
    }
    rule = {"data": {"values": [{"value": threshold}]}, "encoding": {"y": {"field": "value", "type": "quantitative"}}}
    label = {"type": "text", "text": "threshold s", "align": "right", "dy": -7, "x": "width", "fontSize": 12}
    return _chart([
        {"data": {"values": rows}, "params": hide_series(ways), "mark": "line", "encoding": encoding},
        {**rule, "mark": {"type": "rule", "color": PALETTE[1], "strokeWidth": 1.5}},
        {**rule, "mark": {**label, "color": PALETTE[1]}},
    ])  # fmt: skip


def draw_rates(records: Sequence[LinearRecord], threshold: float) -> Chart | None:
    """Rates over singular values, a dot each at every moment, on the formula's sqrt(a^2 + s^2)."""
    rows = [
        {"a": value, "rate": rate}
        for record in records
        for values, rates in zip(record.singular, record.rates, strict=True)
        for value, rate in zip(values, rates, strict=True)
        if value > _LEAST * threshold
    ]
    if not rows:
        return None
    low, high = min(row["a"] for row in rows), max(row["a"] for row in rows)
    grid = [low * (high / low) ** (part / 60) for part in range(61)]
    curve = [{"a": a, "rate": hypot(a, threshold)} for a in grid]
    encoding = {"x": _log("a", "singular value a"), "y": _log("rate", "rate of learning along it")}
    tooltip = [{"field": field, "format": ".3g"} for field in ("a", "rate")]
    dots = {"type": "point", "filled": True, "size": 28, "opacity": 0.5, "color": PALETTE[6]}
    rule = {"type": "rule", "color": PALETTE[1], "strokeWidth": 1.5}
    line = {"type": "line", "color": PALETTE[5], "strokeWidth": 4}
    return _chart([
        {"data": {"values": curve}, "mark": line, "encoding": encoding},
        {"data": {"values": rows}, "mark": dots, "encoding": {**encoding, "tooltip": tooltip}},
        {"data": {"values": [{"a": threshold}]}, "mark": rule, "encoding": {"x": encoding["x"]}},
    ])  # fmt: skip


def draw_phases(panel: Panel) -> Chart | None:
    """Least test error over width and threshold, a mean over seeds; None where only one of them varies."""
    found: dict[tuple[int, float], float] = {}
    for arm in panel.arms:
        network = _network(panel, arm)
        if set(arm.overrides) <= {"width", "threshold"} and (values := panel.values(arm, "test_error")):
            found[network.width, network.threshold] = fmean(values.values())
    if len({width for width, _ in found}) < 2 or len({threshold for _, threshold in found}) < 2:
        return None
    rows = [{"width": width, "threshold": s, "value": value} for (width, s), value in found.items()]
    place = {
        "x": {"field": "width", "type": "ordinal", "title": "width w", "axis": {"labelAngle": 0}},
        "y": {"field": "threshold", "type": "ordinal", "title": "threshold s", "sort": "descending"},
    }
    colour = {
        "field": "value",
        "type": "quantitative",
        "title": "test error",
        "scale": {"scheme": "viridis", "domain": [0, 1], "clamp": True},
    }
    white = {"condition": {"test": "datum.value < 0.45", "value": "white"}, "value": "black"}
    text = {"field": "value", "type": "quantitative", "format": ".2f"}
    return {
        "width": {"step": _CELL},
        "height": {"step": _CELL // 2},
        "data": {"values": rows},
        "layer": [
            {"mark": {"type": "rect", "tooltip": True}, "encoding": {**place, "color": colour}},
            {
                "mark": {"type": "text", "fontSize": 12, "tooltip": True},
                "encoding": {**place, "text": text, "color": white},
            },
        ],
    }


def _list_records(panel: Panel) -> list[LinearRecord]:
    return list(panel.completed(BASELINE).values())


def _draw(panels: Sequence[Panel]) -> Iterator[Drawing]:
    """The charts of the cases that were run; the scalar one has no singular values to compare."""
    for panel in panels:
        records = _list_records(panel)
        if panel.case == "matrix" and records:
            s = _network(panel).threshold
            yield from make_drawings("linear-values", "Singular values over the training", draw_values(records[0], s))
            yield from make_drawings("linear-rates", "Lazy below, balanced above", draw_rates(records, s))
        if panel.case == "recovery":
            yield from make_drawings("linear-phases", "Test error by width and threshold", draw_phases(panel))


def _mean(panel: Panel, arm: str, key: str) -> float | None:
    values = panel.values(arm, key)
    return fmean(values.values()) if values else None


def _say_dynamics(panel: Panel) -> str:
    deviation, rate = (_mean(panel, BASELINE, key) for key in ("deviation", "rate_error"))
    if deviation is None or rate is None:
        return "Not known yet: the dynamics were not run."
    network = _network(panel)
    return (
        f"**It shows** that one formula, without anything fitted, follows gradient descent from random weights within "
        f"{100 * deviation:.1f}\u00a0% of the data's norm (d = {network.size}, w = {network.width}), and the rate "
        f"along each singular value within {100 * rate:.1f}\u00a0%: flat below the threshold s = w σ², where the "
        "network is lazy, and the singular value itself above, where it is balanced."
    )


def _say_recovery(panel: Panel) -> str:
    """The ends of the sweep over thresholds."""
    arms = [arm for arm in panel.arms if set(arm.overrides) <= {"threshold"} and panel.values(arm, "test_error")]
    if len(arms) < 2:
        return "What a threshold is worth was not measured."
    arms.sort(key=lambda arm: _network(panel, arm).threshold)
    said = [
        f"s = {_network(panel, arm).threshold:g} has a test error of {_mean(panel, arm, 'test_error'):.2f} after "
        f"{_mean(panel, arm, 'iterations'):.0f} steps"
        for arm in (arms[0], arms[-1])
    ]
    best, lazy = _mean(panel, arms[0], "truncated"), _mean(panel, arms[-1], "lazy")
    return (
        "A small threshold finds the matrix of low rank behind the noise, slowly; a large one is fast and learns the "
        f"noise: {said[0]} (the best matrix of that rank has {best:.2f}), {said[1]} (exactly lazy: {lazy:.2f})."
    )


def _show_linear(_root: Path, _: Project, panels: Sequence[Panel]) -> Section:
    """The study on the page: charts, then what they say."""
    cases = {panel.case: panel for panel in panels}
    notes = [_say_dynamics(cases["matrix"])] if "matrix" in cases else []
    notes += [_say_recovery(cases["recovery"])] if "recovery" in cases else []
    text = "Two-layer linear networks A = W₂W₁ that learn a matrix of low rank from one with noise."
    return Section(_ID, _TITLE, text=text, drawings=list(_draw(panels)), notes=[*notes, _NOT_SHOWN, _PAPER])


VIEWS = Views(sections={_ID: _show_linear})
