"""The text `audit`: what networks that people use do with the time; and its chart."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from pipeline.report.charts import fade_hidden, hide_series, make_drawings
from pipeline.report.markdown import escape_cell
from pipeline.report.panel import Panel, list_gaps
from pipeline.report.vega import PALETTE, Chart
from pipeline.report.views import Drawing, Views
from pipeline.schema.project import Project
from pipeline.schema.study import Run
from pipeline.studies.audit.study import AuditRun

_TITLE = "## Networks that people use: what is left of the time"
BUILT, BY_CHANNEL = "as built", "with G = C behind its sites"
_KEYS = {BUILT: "kept", BY_CHANNEL: "kept_by_channel"}
_LABELS = {
    "node": "ODE function, t v added", "node_by_channel": "ODE function, G = C", "unet": "our U-Net",
    "unet_by_channel": "our U-Net, G = C behind sites", "concat_squash": "ConcatSquash, a norm behind",
    "unet2d": "UNet2DModel (diffusers), as for CIFAR-10", "unet2d_small": "UNet2DModel (diffusers)",
    "unet2d_scale_shift": "UNet2DModel, scale_shift",
    "unet2d_condition": "UNet2DConditionModel (diffusers)", "dit": "DiT (diffusers)", "sd3": "SD3 (diffusers)",
    "flux": "Flux (diffusers)", "torchcfm": "U-Net of torchcfm",
    "denoising_diffusion": "Unet of denoising-diffusion-pytorch",
}  # fmt: skip
_LIMITS = (
    "It does not show what training makes of it: weights are random, images are noise, and a network may read the time "
    "from its input (`python -m pipeline audit` measures both on a trained network of yours)."
)
_PAPER = "It follows equation 5 of the paper, which says what normalisation leaves of an offset per channel."


def name_network(run: Run) -> str:
    """A network as the report calls it."""
    assert isinstance(run, AuditRun)
    scale = run.audited.time_scale
    return _LABELS[run.audited.network] + ("" if scale == 1 else f", t × {scale:g}")


def _list_means(panel: Panel, key: str, kept: Sequence[str] | None = None) -> list[float]:
    """Means over seeds of the arms that have a value."""
    arms = panel.arms if kept is None else kept
    return [fmean(values.values()) for arm in arms if (values := panel.values(arm, key))]


def _say_channels(panel: Panel, arms: Sequence[str]) -> str:
    """What G = C leaves, where the time is added alone and elsewhere."""
    adding = [arm for arm in arms if _list_means(panel, "added", [arm]) == _list_means(panel, "sites", [arm])]
    others = [arm for arm in arms if arm not in adding]
    places = {"where the time is added": adding, "where it scales or gates": others}
    left = {place: _list_means(panel, "kept_by_channel", some) for place, some in places.items()}
    return " and ".join(f"{_show_range(values)} {place}" for place, values in left.items() if values)


def _say_kept(panel: Panel, arms: Sequence[str]) -> str:
    kept = _list_means(panel, "kept", arms)
    return (
        f"**As built, {len(kept)} networks keep {_show_range(kept)}** of what the time does at a site, mean over their "
        f"sites; **with one group per channel (G = C) they would keep** {_say_channels(panel, arms)}."
    )


def _show_range(shares: Sequence[float]) -> str:
    low, high = (f"{100 * value:.0f}" for value in (min(shares), max(shares)))
    if max(shares) == 0:
        return "nothing"
    return f"{high} %" if low == high else f"{low} to {high} %"


def _say_panel(panel: Panel) -> Iterator[str]:
    known = [arm for arm in panel.arms if _list_means(panel, "kept", [arm])]
    built = [arm for arm in known if _list_means(panel, "kept", [arm]) != [0.0]]
    if not built:
        yield "Not known yet: no network was audited."
        return
    yield _say_kept(panel, built)
    yield _LIMITS
    yield _PAPER


def render_audit_text(_: Project, panels: Sequence[Panel]) -> str:
    """Three sentences from the records."""
    parts = [_TITLE]
    for panel in panels:
        parts += ["", *_say_panel(panel)]
        if gaps := list_gaps(panel, panel.arms):
            parts += ["", *(f"- {escape_cell(line)}." for line in gaps)]
    return "\n".join(parts) + "\n"


def draw_kept(panel: Panel) -> Chart | None:
    """What each network keeps, as built against by channel: a row a network; None without a value."""
    rows = [
        {"network": name_network(panel.runs[arm]), "arm": arm, "series": norm, "value": fmean(values.values())}
        for arm in panel.arms
        for norm, key in _KEYS.items()
        if (values := panel.values(arm, key))
    ]
    if not rows:
        return None
    domain, series = {"domain": list(_KEYS)}, {"field": "series", "type": "nominal", "title": None}
    place = {"field": "network", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 300}}
    value = {"field": "value", "type": "quantitative", "title": "kept of the time, mean over sites"}
    told = [
        {"field": field, "title": title} for field, title in (("arm", "arm"), ("series", "norm"), ("value", "kept"))
    ]
    legend = {"orient": "top", "direction": "vertical"}
    dots = {
        "params": hide_series(_KEYS),
        "mark": {"type": "point", "filled": True, "size": 80},
        "encoding": {
            "opacity": fade_hidden(1),
            "color": {**series, "legend": legend, "scale": {**domain, "range": PALETTE[:2]}},
            "shape": {**series, "scale": {**domain, "range": ["circle", "square"]}},
            "tooltip": told,
        },
    }
    bar = {"mark": {"type": "line", "color": "#bbbbbb"}, "encoding": {"detail": {"field": "network"}}}
    return {
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": 22 * len({row["network"] for row in rows}),
        "data": {"values": rows},
        "encoding": {"y": place, "x": {**value, "scale": {"domainMin": 0}}},
        "layer": [bar, dots],
    }


def _draw(_: Project, panels: Sequence[Panel]) -> list[Drawing]:
    return [
        drawing
        for panel in panels
        for drawing in make_drawings(f"audit-{panel.case}", "What is left of the time, by network", draw_kept(panel))
    ]


VIEWS = Views(texts={"audit": render_audit_text}, drawings={"audit": _draw})
