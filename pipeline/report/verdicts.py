"""Verdicts to Markdown."""

from collections.abc import Sequence

from pipeline.report.claims import Outcome, Page
from pipeline.report.contrasts import name_target
from pipeline.report.markdown import align_table, escape_cell
from pipeline.report.panel import EMBEDDED, list_failed, list_gaps
from pipeline.report.statistics import LEVEL, MAX_N, Summary, find_interval, needed_n, summarise
from pipeline.schema.claim import Claim, Extreme

_CAVEAT = """
Effects are paired by seed; intervals are Student's, 95 %, over seeds. A diffusion model's value for a seed is the mean
over its sample sets. A comparison

- **holds** where its interval lies wholly on the claimed side of 0,
- **fails** where it lies wholly on the other side,
- is **undecided** where 0 is within it, or where no run shows any difference,
- has **too few seeds** below a number that the study's claims.yaml sets, whatever its interval,
- is **not run** where params.yaml does not ask for an arm, or an arm has no record.

An equality holds where the means agree to the decimals shown and the interval of their difference stays within one unit
of the last decimal; it fails where the interval excludes 0. A slope of logarithms holds where its interval stays within
the tolerance, and fails where it lies outside. Where theory gives the number, no count of seeds is asked for: it holds
where the mean lies within so many of its standard errors, or each seed within the tolerance. "Each seed" means that one
on the wrong side is enough to fail. Against a number, the effect is what was measured minus that number.

A claim is not run where one of its comparisons is not; else it fails with one of them, and holds with all. Where it
says "mostly", more than half of the curves suffice, over all cases of one scale. "n = ... would decide": if mean and
spread stayed as they are. "No spread": all seeds gave the same difference. Where arms share a single seed, the effect
is that of its sample sets, paired by set: it speaks of these trained models, and another training may say otherwise.
"""
_BY_CHANCE = 1 - LEVEL
"""Share of the comparisons without an effect whose interval excludes 0."""


def _explain(outcome: Outcome) -> str:
    """A verdict, and what qualifies it."""
    summary, verdict = summarise(outcome.effects), outcome.verdict
    if verdict == "not run" or outcome.obstacle:
        return f"{verdict}: {outcome.not_run or outcome.obstacle}"
    if verdict == "too few seeds":
        return f"{verdict}: {outcome.seeds} of {outcome.least}"
    assert summary is not None
    if verdict == "undecided" and outcome.contrast.tolerance is None:
        if summary.mean == 0 and not summary.std:
            return "undecided: no run differs"
        n = needed_n(summary.mean, summary.std)
        return f"undecided; n = {n} would decide" if n else f"undecided; no n up to {MAX_N} would decide"
    chance = not outcome.contrast.each and outcome.margin is None
    return f"{verdict} (no spread)" if chance and summary.std == 0 else verdict


def _count(outcome: Outcome) -> str:
    return f"{len(outcome.effects)} sets" if outcome.unit == "sets" else str(len(outcome.effects))


def _show_interval(outcome: Outcome, summary: Summary | None, digits: int) -> str:
    """An interval, which would say nothing without spread; what is allowed where the number is known."""
    if outcome.margin is not None:
        return f"allowed: ±{outcome.margin:.2g}"
    if outcome.contrast.each:
        return "each seed"
    interval = find_interval(summary) if summary else None
    if summary is None or interval is None:
        return "—"
    return f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}" if summary.std else "no spread"


def _show_effect(outcome: Outcome, summary: Summary | None, digits: int) -> str:
    """The mean effect; beside what is allowed, a small one is shown with its power of ten."""
    if summary is None:
        return "—"
    if outcome.margin is not None and summary.mean and round(summary.mean, digits) == 0:
        return f"{summary.mean:+.1e}"
    return f"{summary.mean:+.{digits}f}"


def show_outcome(name: str, outcome: Outcome, with_paper: bool) -> list[str]:
    """The cells of a comparison: claim, comparison, verdict, effect, interval, n, and the paper's effect."""
    summary, digits = summarise(outcome.effects), outcome.part.digits
    cells = [
        name,
        outcome.contrast.text,
        _explain(outcome),
        _show_effect(outcome, summary, digits),
        _show_interval(outcome, summary, digits),
        _count(outcome),
    ]
    if with_paper:
        cells.append("—" if outcome.paper is None else f"{outcome.paper:+.{digits}f}")
    return cells


def _show_chance(outcome: Outcome) -> str:
    """The size of a replicate's difference, with the interval turned to the side of the mean."""
    summary, digits = summarise(outcome.effects), outcome.part.digits
    if summary is None:
        return f"an unknown amount ({outcome.not_run or outcome.obstacle or 'no seed in common'})"
    size = f"{abs(summary.mean):.{digits}f} in {outcome.part.key}"
    if (interval := find_interval(summary)) is None:
        return f"{size} (no interval: n < 2)"
    low, high = interval if summary.mean >= 0 else (-interval[1], -interval[0])
    unit = f"{summary.n} sets of one seed" if outcome.unit == "sets" else f"{summary.n} seeds"
    return f"{size} ({low:.{digits}f} to {high:.{digits}f} over {unit})"


def _render_replicates(page: Page) -> list[str]:
    """One line: how far networks lie apart that differ in their training's random numbers alone."""
    pairs: dict[str, list[str]] = {}
    for outcome in page.replicates:
        pair = " and ".join(f"`{arm}`" for arm in outcome.contrast.weights)
        pairs.setdefault(pair, []).append(_show_chance(outcome))
    if not pairs:
        return []
    apart = "; ".join(f"{pair} differ by {', '.join(dict.fromkeys(sizes))}" for pair, sizes in pairs.items())
    return [
        f"- Chance of training (the same network, other random numbers): {apart}. An effect no larger than this cannot "
        "be told from the chance of training."
    ]


def _expect_errors(page: Page) -> list[str]:
    """How many verdicts chance alone would give: each comparison is judged as if it were the only one."""
    outcomes = [outcome for judged in page.judged.values() for outcome in judged.outcomes]
    decided = [one for one in outcomes if one.verdict in ("holds", "fails", "undecided") and not one.obstacle]
    count = sum(outcome.contrast.side != "=" and not outcome.contrast.each for outcome in decided)
    if not count:
        return []
    return [
        "- Nothing is corrected for the number of comparisons: if no arm had an effect, "
        f"{_BY_CHANCE * count:.1f} of the {count} with enough seeds would hold or fail by chance (equalities left out)."
    ]


def _render_details(page: Page) -> list[str]:
    outcomes = [(name, outcome) for name, judged in page.judged.items() for outcome in judged.outcomes]
    with_paper = any(outcome.paper is not None for _, outcome in outcomes)
    header = ["Claim", "Comparison", "Verdict", "Effect", "95 % interval", "n"] + ["paper: effect"] * with_paper
    rows = [show_outcome(name, outcome, with_paper) for name, outcome in outcomes]
    parts = ["", f"### {escape_cell(page.panel.title)}", "", align_table(header, rows, left=3), ""]
    if page.panel.scale == "embedded":
        parts.append(f"- {EMBEDDED}. A verdict here is about these {page.panel.title} only, not about the paper.")
    if with_paper:
        parts.append("- paper: effect: from the means that it prints; the paper's spread is unknown.")
    parts += [*_render_replicates(page), *_expect_errors(page)]
    for study, panel in page.panels.items():
        lines = [*list_failed(panel, panel.arms), *list_gaps(panel, panel.arms)]
        parts += [f"- {study}: {escape_cell(line)}." for line in lines]
    return parts


def _count_most(claim: Claim, pages: Sequence[Page]) -> list[str]:
    """For what the paper says of most curves: in how many of them it is so by the means alone, scale by scale."""
    lines = []
    for index, part in enumerate(claim.comparisons):
        if not isinstance(part, Extreme) or not part.most:
            continue
        for scale in dict.fromkeys(page.panel.scale for page in pages):
            peers = [page for page in pages if page.panel.scale == scale and claim.id in page.judged]
            series = [group for page in peers for group in page.judged[claim.id].comparisons[index].series]
            nearest = [outcome for group in series for outcome in group if outcome.contrast.nearest]
            effects = [summary.mean for outcome in nearest if (summary := summarise(outcome.effects))]
            best = sum(effect < 0 if part.kind == "lowest" else effect > 0 for effect in effects)
            if effects:
                titles = ", ".join(page.panel.title for page in peers)
                text = f"{part.key} is {part.kind} at {name_target(part)}"
                lines.append(f"- {claim.id}: by the means alone, {text} in {best} of {len(effects)} curves ({titles}).")
    return lines


def _list_verdicts(claim: Claim, pages: Sequence[Page]) -> str:
    """`holds on digits (not the paper's scale), not run on CIFAR-10`."""
    found = []
    for page in (page for page in pages if claim.id in page.judged):
        scale = " (not the paper's scale)" if page.panel.scale == "embedded" else ""
        found.append(f"{page.judged[claim.id].verdict} on {escape_cell(page.panel.title)}{scale}")
    return ", ".join(found) or "—"


def render_verdicts(claims: Sequence[Claim], pages: Sequence[Page]) -> str:
    """One row a claim, with its verdict on each case, as Markdown."""
    header = ["Claim", "Statement", "Source", "Verdict"]
    rows = [
        [claim.id, escape_cell(claim.statement), escape_cell(claim.source), _list_verdicts(claim, pages)]
        for claim in claims
    ]
    parts = ["## Verdicts", "", align_table(header, rows, left=len(header)), ""]
    parts += [line for claim in claims for line in _count_most(claim, pages)]
    for page in pages:
        if page.panel.scale == "embedded":
            title = page.panel.title
            parts.append(f"- A verdict on {title} is about these {title} only: {EMBEDDED}.")
    parts.append("- Effects, intervals, and how many seeds would decide: [claims.md](claims.md#how-they-were-reached).")
    return "\n".join(parts) + "\n"


def render_claims(claims: Sequence[Claim], pages: Sequence[Page]) -> str:
    """The verdicts, then every comparison behind them, as Markdown."""
    parts = [render_verdicts(claims, pages), "## How they were reached", _CAVEAT.rstrip()]
    for page in pages:
        parts += _render_details(page)
    return "\n".join(parts) + "\n"
