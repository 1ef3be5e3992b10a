"""The text `answer`: what the time test says, in three sentences; and how its numbers came about."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

from pipeline.report.panel import Panel
from pipeline.report.protocol import show_shared
from pipeline.report.views import Views
from pipeline.schema.project import Project
from pipeline.studies.ddpm.derived import loses_level
from pipeline.studies.node.derived import loses_time
from pipeline.studies.timetest.study import WHITE_NOISE, NoiseRun, TimetestRecord

_TITLE = "## In short"
_LOST, _KEPT = 0.9, 0.5
"""Values of R beyond which a network is said to have lost the time, or to have kept it; 1 is blind, 0 knows it."""
_R = "R is a network's error in the time tests, divided by the least possible error without the time."


def _loses(run: Any, **changes: Any) -> bool:
    """Whether equation 5 says that a run's network, with other fields, loses the time."""
    network = run.network.model_copy(update=changes)
    return loses_level(network) if isinstance(run, NoiseRun) else loses_time(network)


def _gather(panels: Iterable[Panel], belongs: Callable[[Any], bool]) -> list[float]:
    """R of all completed runs with networks that belong."""
    return [
        value
        for panel in panels
        for arm in panel.arms
        if belongs(panel.runs[arm])
        for value in panel.values(arm, "r").values()
    ]


def _told(run: Any) -> bool:
    """Whether a network has the time, and no positional embedding."""
    return bool(run.network.time != "none" and run.network.position == "none")


def _plain(run: Any) -> bool:
    """Whether initial weights are those of the baseline."""
    return getattr(run.network, "weight_std", None) is None


def _show(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"R from {low:.3f} to {high:.3f}" if f"{low:.3f}" != f"{high:.3f}" else f"R {low:.3f}"


def _say_lost(panels: Sequence[Panel]) -> str:
    lost = _gather(panels, lambda run: _told(run) and _loses(run))
    kept = _gather(panels, lambda run: _told(run) and not _loses(run) and run.network.norm == "group" and _plain(run))
    if not lost or not kept:
        return "Not known yet: the time test was not run."
    is_lost, is_kept = min(lost) > _LOST, fmean(kept) < _KEPT
    if is_lost and is_kept:
        return (
            "**A network loses the time where each channel is normalised by itself**, unless the border or a position "
            f"brings it back. All {len(lost)} such ODE functions and U-Nets that we trained are blind to it "
            f"({_show(lost)}; 1 is blind, 0 knows the time). With group normalisation and ordinary initial weights "
            f"they know it ({_show(kept)})."
        )
    if is_lost:
        return f"Yes, but not for the normalisation alone: {_show(lost)} per channel, {_show(kept)} in groups."
    return f"**No**: networks that normalise each channel by itself have {_show(lost)}, those in groups {_show(kept)}."


def _say_restored(panels: Sequence[Panel]) -> str:
    def embeds(run: Any) -> bool:
        embedded = run.network.position != "none" and run.network.time != "none"
        return bool(embedded and _loses(run, position="none"))

    restored = _gather(panels, lambda run: embeds(run) and not run.network.position_mean)
    mean = _gather(panels, lambda run: embeds(run) and run.network.position_mean)
    if not restored or not mean:
        return "Whether a positional embedding brings it back was not measured."
    if fmean(restored) < _KEPT and min(mean) > _LOST:
        return (
            f"**A positional embedding brings the time back** ({_show(restored)}). What counts is that it differs from "
            f"pixel to pixel: its mean over the pixels brings nothing back ({_show(mean)})."
        )
    return f"With a positional embedding it is {_show(restored)}; with its mean over the pixels {_show(mean)}."


def _say_border(panels: Sequence[Panel]) -> str:
    def leaks(run: Any) -> bool:
        return bool(_told(run) and _plain(run) and not _loses(run) and _loses(run, padding="circular"))

    border = _gather((panel for panel in panels if panel.case != WHITE_NOISE), leaks)
    if not border:
        return "Whether t leaks through the border was not measured."
    if fmean(border) < _KEPT:
        return (
            "**Zero padding can save the time by accident.** Where t is an input channel, its kernel has fewer taps at "
            "the border of the image, and t leaks in there. So on 8x8 pixels a network with batch normalisation, which "
            f"Kim et al. warn of, knows the time after all ({_show(border)})."
        )
    return f"Zero padding does not save it: {_show(border)}."


def render_answer(_: Project, panels: Sequence[Panel]) -> str:
    """Three sentences from the records, and what R is."""
    said = (_say_lost(panels), _say_restored(panels), _say_border(panels))
    return "\n".join([_TITLE, "", *said, "", _R]) + "\n"


def describe(records: Sequence[TimetestRecord], embedded: bool) -> list[str]:
    """The protocol in words, a line each."""
    steps = show_shared([record.settings["training.steps"] for record in records])
    return [f"{steps} training steps; the test inputs are the same at every time, so no sampling error is in the floor"]


VIEWS = Views(texts={"answer": render_answer}, describe=describe)
