"""Verdicts to Markdown."""

from collections.abc import Sequence

from pipeline.report.claims import Judged, Outcome, Page
from pipeline.report.contrasts import name_target
from pipeline.report.markdown import align_table, escape_cell
from pipeline.report.panel import EMBEDDED, list_failed, list_missing
from pipeline.report.statistics import MAX_N, find_interval, needed_n, summarise
from pipeline.schema.claim import Claim, Extreme

_CAVEAT = """
Intervals are Student's, 95 %, over seeds, paired by seed; a diffusion model's value for a seed is the mean over its
sample sets. Where arms share a single seed, scores that every sample set has are compared over these sets, paired by
set, and the verdict is **for these models** alone: what another training would have given is not in the interval. A
comparison **holds** when its interval lies wholly on the claimed side of 0, **fails** when it lies wholly on the
other, and is **undecided** otherwise; an equality holds when every seed or set agrees to the decimals shown, and fails
when the interval excludes it. A claim fails with one of its comparisons, and holds with all; where it says "mostly",
more than half suffice. "n = ... would decide": if mean and spread stayed as they are. "No spread seen": all seeds or
sets gave the same difference, and the interval says no more than its sign. Each comparison stands alone: nothing is
corrected for their number, and of those with no effect behind them one in twenty excludes 0 by chance.
"""
_ONE_SEED = (
    "one seed: over sample sets of one trained model an arm, and so about these models; another training of the same "
    "arms may say otherwise"
)


def _explain(outcome: Outcome) -> str:
    """A verdict, and what qualifies it."""
    summary, verdict, over_sets = summarise(outcome.effects), outcome.verdict, outcome.unit == "sets"
    if outcome.obstacle:
        return f"undecided: {outcome.obstacle}"
    if summary is None or summary.n < 2:
        return "undecided: n < 2"
    said = f"{verdict} for these models" if over_sets else verdict
    if verdict == "undecided":
        n = needed_n(summary.mean, summary.std)
        unit = " sets" if over_sets else ""
        return f"{said}; n = {n}{unit} would decide" if n else f"{said}; no n up to {MAX_N} would decide"
    remarks = [f"{summary.n} sample sets of one seed"] * over_sets + ["no spread seen"] * (summary.std == 0)
    return f"{said} ({', '.join(remarks)})" if remarks else said


def _count(outcome: Outcome) -> str:
    return f"{len(outcome.effects)} sets" if outcome.unit == "sets" else str(len(outcome.effects))


def show_outcome(name: str, outcome: Outcome, with_paper: bool) -> list[str]:
    """The cells of a comparison: claim, comparison, verdict, effect, interval, n, and the paper's effect."""
    summary, digits = summarise(outcome.effects), outcome.part.digits
    interval = find_interval(summary) if summary else None
    cells = [
        name,
        outcome.contrast.text,
        _explain(outcome),
        f"{summary.mean:+.{digits}f}" if summary else "—",
        f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}" if interval else "—",
        _count(outcome),
    ]
    if with_paper:
        cells.append("—" if outcome.paper is None else f"{outcome.paper:+.{digits}f}")
    return cells


def _show_chance(outcome: Outcome) -> str:
    """The size of a replicate's difference, with the interval turned to the side of the mean."""
    summary, digits = summarise(outcome.effects), outcome.part.digits
    if summary is None:
        return f"an unknown amount ({outcome.obstacle or 'no seed in common'})"
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


def _render_details(page: Page) -> list[str]:
    outcomes = [(name, outcome) for name, judged in page.judged.items() for outcome in judged.outcomes]
    with_paper = any(outcome.paper is not None for _, outcome in outcomes)
    header = ["Claim", "Comparison", "Verdict", "Effect", "95 % interval", "n"] + ["paper: effect"] * with_paper
    rows = [show_outcome(name, outcome, with_paper) for name, outcome in outcomes]
    parts = ["", f"### {page.panel.title}", "", align_table(header, rows, left=3), ""]
    if page.panel.scale == "embedded":
        parts.append(f"- {EMBEDDED}. A verdict here is about these {page.panel.title} only, not about the paper.")
    if with_paper:
        parts.append("- paper: effect: from the means that it prints; the paper's spread is unknown.")
    parts += _render_replicates(page)
    for study, panel in page.panels.items():
        lines = [*list_failed(panel, panel.arms), *list_missing(panel, panel.arms)]
        parts += [f"- {study}: {escape_cell(line)}." for line in lines]
    return parts


def _count_most(claim: Claim, pages: Sequence[Page]) -> list[str]:
    """For what the paper says of most cells: in how many of them it is so by the means alone."""
    lines = []
    for part in claim.comparisons:
        if not isinstance(part, Extreme) or not part.most:
            continue
        judged = [page.judged[claim.id] for page in pages if claim.id in page.judged]
        cells = [outcome for item in judged for outcome in item.outcomes if outcome.part is part]
        effects = [summary.mean for cell in cells if cell.contrast.nearest and (summary := summarise(cell.effects))]
        best = sum(effect < 0 if part.kind == "lowest" else effect > 0 for effect in effects)
        over = f"combinations of dataset and {part.series}" if part.series else "datasets"
        text = f"{part.key} is {part.kind} at {name_target(part)}"
        lines.append(f"- {claim.id}: by the means alone, {text} in {best} of {len(effects)} {over}.")
    return lines


def show_verdict(judged: Judged) -> str:
    """A verdict, marked where it rests on one seed."""
    return f"{judged.verdict} (one seed)" if judged.of_one_seed else judged.verdict


def render_verdicts(claims: Sequence[Claim], pages: Sequence[Page]) -> str:
    """One row a claim, one verdict a dataset, as Markdown."""
    scales = [" (not the paper's scale)" if page.panel.scale == "embedded" else "" for page in pages]
    header = ["Claim", "The paper says", "Source"]
    header += [f"{page.panel.title}{scale}" for page, scale in zip(pages, scales, strict=True)]
    rows = [
        [claim.id, escape_cell(claim.statement), escape_cell(claim.source)]
        + [show_verdict(page.judged[claim.id]) if claim.id in page.judged else "—" for page in pages]
        for claim in claims
    ]
    parts = ["## The paper's claims", "", align_table(header, rows, left=len(header)), ""]
    parts += [line for claim in claims for line in _count_most(claim, pages)]
    if any(judged.of_one_seed for page in pages for judged in page.judged.values()):
        parts.append(f"- {_ONE_SEED}.")
    for page in pages:
        if page.panel.scale == "embedded":
            title = page.panel.title
            parts.append(f"- A verdict on {title} is about these {title} only: {EMBEDDED}.")
    parts.append(
        "- Effects, intervals, and how many seeds or sets would decide: [claims.md](claims.md#how-they-were-reached)."
    )
    return "\n".join(parts) + "\n"


def render_claims(claims: Sequence[Claim], pages: Sequence[Page]) -> str:
    """The verdicts, then every comparison behind them, as Markdown."""
    parts = [render_verdicts(claims, pages), "## How they were reached", _CAVEAT.rstrip()]
    for page in pages:
        parts += _render_details(page)
    return "\n".join(parts) + "\n"
