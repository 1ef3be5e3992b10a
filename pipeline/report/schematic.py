"""The remedies as diagrams: what stands in each, and what of it differs from the baseline."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from pipeline.report.views import SiteWords, find_views
from pipeline.schema.architecture import EXACT, Architecture, Branch, Change, Design, Norm, Outline, Parameter, Remedy

Status = Literal["same", "added", "changed", "removed", "absent"]
"""Beside the baseline; absent: it is in neither."""
_SYMBOLS = {"convolution": "W̃ ∗ X", "bias": "b", "channel": "ṽ_t", "position": "p̃_t"}
"""By kind of branch, in the paper's order."""
_REMEDIES: Mapping[Remedy, tuple[str, str, str]] = {
    "none": (
        "Baseline",
        "An offset for each channel",
        "ṽ_t is added to the convolution. The norm behind it takes out whatever all values of a group have in common.",
    ),
    "position": (
        "Remedy 1",
        "A positional timestep embedding",
        "p̃_t has one value a pixel. It differs within every channel, so that no norm takes it out.",
    ),
    "zero_bias": (
        "Remedy 2",
        "Zero bias on the convolution branch alone",
        "Biases start at zero in the convolution, not in the timestep branch: at first it alone offsets channels.",
    ),
    "groups": (
        "Remedy 3",
        "Fewer groups",
        "More channels share mean and deviation. Their offsets differ, and only what they have in common is lost.",
    ),
}


@dataclass(frozen=True)
class Line:
    """A parameter of a branch."""

    name: str
    count: str
    start: str
    """How it is at first, where that matters."""
    shared: bool
    marked: bool
    """Not the baseline's."""


@dataclass(frozen=True)
class Row:
    """A branch, or the place of one that this design lacks."""

    kind: str
    status: Status
    symbol: str
    branch: Branch | None = None
    axes: str = ""
    """Along which it can vary: of `chw`."""
    lines: Sequence[Line] = ()


@dataclass(frozen=True)
class Effect:
    """What t does to the norm's output through a branch or all of them, with the norm as built and by channel."""

    symbol: str
    cells: Sequence[tuple[str, str, float]]
    """Mean, range, and the mean as a part of the schematic's greatest."""


@dataclass(frozen=True)
class Diagram:
    """One design."""

    number: str
    title: str
    sentence: str
    arm: str
    outline: Outline
    rows: Sequence[Row]
    norm_status: Status
    effects: Sequence[Effect]
    costs: Sequence[tuple[str, str, str]]
    """What, how much, and the difference from the baseline."""


@dataclass(frozen=True)
class Schematic:
    """The designs of a study on a case, the baseline first."""

    study: str
    case: str
    title: str
    place: str
    diagrams: Sequence[Diagram]


def show_flops(flops: int) -> str:
    """Four digits and a unit."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if flops >= size:
            return f"{flops / size:.4g} {unit}FLOP"
    return f"{flops} FLOP"


def _find(design: Design, kind: str) -> Branch | None:
    return next((branch for branch in design.outline.branches if branch.kind == kind), None)


def _show_start(parameter: Parameter, before: Parameter | None) -> str:
    if parameter.zero:
        return "0 at first"
    matters = parameter.name.endswith("bias") or (before is not None and before.zero)
    return "not 0 at first" if matters else ""


def _list_lines(branch: Branch, baseline: Branch | None, listed: Collection[str]) -> Iterable[Line]:
    """Its parameters, but for those that a branch above it has too."""
    known = {one.name: one for one in baseline.parameters} if baseline is not None else {}
    for one in branch.parameters:
        if one.name not in listed:
            before = known.get(one.name)
            marked = baseline is not None and before != one
            yield Line(one.name, f"{one.count:,}", _show_start(one, before), one.shared, marked)


def _is_same(branch: Branch, baseline: Branch) -> bool:
    """Whether nothing differs but names, as of a slice, and what is measured with other random numbers."""

    def bare(one: Branch) -> Branch:
        parameters = [parameter.model_copy(update={"name": ""}) for parameter in one.parameters]
        return one.model_copy(update={"parameters": parameters, "change": None})

    return bare(branch) == bare(baseline)


def _lay_out_row(kind: str, branch: Branch | None, baseline: Branch | None, listed: Collection[str]) -> Row:
    if branch is None:
        return Row(kind, "absent" if baseline is None else "removed", _SYMBOLS[kind])
    status: Status = "added" if baseline is None else "same" if _is_same(branch, baseline) else "changed"
    axes = "".join(axis for axis, count in zip("chw", branch.shape, strict=True) if count > 1)
    compared = branch if status == "same" else baseline
    return Row(kind, status, branch.expression, branch, axes, list(_list_lines(branch, compared, listed)))


def _lay_out(design: Design, baseline: Design, kinds: Iterable[str]) -> list[Row]:
    rows: list[Row] = []
    for kind in kinds:
        listed = {line.name for row in rows for line in row.lines}
        rows.append(_lay_out_row(kind, _find(design, kind), _find(baseline, kind), listed))
    return rows


def _show_number(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _show_change(values: Sequence[float], greatest: float) -> tuple[str, str, float]:
    if max(values) < EXACT:
        return "0", f"{max(values):.0e}", 0.0
    spread = f"{_show_number(min(values))}–{_show_number(max(values))}" if len(values) > 1 else ""
    return _show_number(fmean(values)), spread, fmean(values) / greatest


def _list_changes(design: Design) -> Iterable[tuple[str, Change]]:
    """What t does through each branch that knows it, and through all of them where they are several."""
    known = [(branch.expression.split(" = ")[0], branch.change) for branch in design.outline.branches]
    found = [(symbol, change) for symbol, change in known if change is not None]
    yield from found
    if len(found) != 1:
        yield "all", design.outline.change


def _find_greatest(designs: Iterable[Design]) -> float:
    means = [
        fmean(values)
        for design in designs
        for _, change in _list_changes(design)
        for values in (change.built, change.by_channel)
    ]
    return max(means) or 1.0


def _show_difference(value: int, before: int) -> str:
    return "as the baseline" if value == before else f"{value - before:+,} ({(value - before) / before:+.2%})"


def _count(design: Design, words: SiteWords) -> tuple[int, int]:
    """Parameters of the network, and FLOPs of the part with the sites for one image."""
    drawn = [part.flops_image + part.flops_call for part in design.parts if part.name == words.part]
    return sum(part.params for part in design.parts), sum(drawn)


def _list_costs(design: Design, baseline: Design, words: SiteWords) -> list[tuple[str, str, str]]:
    (params, flops), (params_before, flops_before) = _count(design, words), _count(baseline, words)
    shown = [("parameters", f"{params:,}", _show_difference(params, params_before)),
             (f"{words.label}, one image", show_flops(flops), _show_difference(flops, flops_before))]  # fmt: skip
    return [(what, much, "" if design is baseline else difference) for what, much, difference in shown]


def _say(design: Design, baseline: Design) -> str:
    """What the remedy does; and what else differs from the baseline, because ṽ_t = t v has no bias."""
    sentence = _REMEDIES[design.remedy][2]
    drawn, before = _find(design, "channel"), _find(baseline, "channel")
    if drawn is None or before is None or drawn.expression == before.expression:
        return sentence
    return f"{sentence} Drawn with {drawn.expression}, as {before.expression} has no bias."


def _is_same_norm(norm: Norm, other: Norm) -> bool:
    return (norm.kind, norm.unit, norm.over_batch) == (other.kind, other.unit, other.over_batch)


def _draw(design: Design, designs: Sequence[Design], words: SiteWords) -> Diagram:
    baseline, greatest = designs[0], _find_greatest(designs)
    kinds = [kind for kind in _SYMBOLS if any(_find(one, kind) for one in designs)]
    effects = [
        Effect(symbol, [_show_change(values, greatest) for values in (change.built, change.by_channel)])
        for symbol, change in _list_changes(design)
    ]
    return Diagram(
        *_REMEDIES[design.remedy][:2], _say(design, baseline), design.arm, design.outline,
        rows=_lay_out(design, baseline, kinds),
        norm_status="same" if _is_same_norm(design.outline.norm, baseline.outline.norm) else "changed",
        effects=effects, costs=_list_costs(design, baseline, words),
    )  # fmt: skip


def draw_schematics(architecture: Architecture, titles: Mapping[tuple[str, str], str]) -> list[Schematic]:
    """The diagrams of each study on each case that has designs.

    Args:
        titles: of cases, by study and name.
    """
    drawn: list[Schematic] = []
    for networks in architecture.networks:
        words = find_views(networks.study).site
        if not (designs := networks.designs) or words is None:
            continue
        drawn.append(Schematic(
            networks.study, networks.case, f"{words.study}, {titles[networks.study, networks.case]}",
            words.place.format(sites=designs[0].outline.sites),
            [_draw(design, designs, words) for design in designs],
        ))  # fmt: skip
    return drawn
