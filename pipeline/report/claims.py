"""Claims of the paper to verdicts over records."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pipeline.report.contrasts import Contrast, Side, Sweep, find_contrasts
from pipeline.report.panel import NOT_RUN, Panel
from pipeline.report.statistics import find_interval, summarise
from pipeline.report.sweeps import find_points
from pipeline.schema.claim import Claim, Comparison, Extreme
from pipeline.schema.panel import StudyName
from pipeline.schema.project import Project
from pipeline.schema.table import Table

Verdict = Literal["holds", "fails", "undecided"]
NOISE_DIGITS = 9
"""Decimals of an effect that are kept: what lies below is the rounding of floating-point numbers."""


@dataclass(frozen=True)
class Outcome:
    """A contrast on one dataset."""

    part: Comparison
    contrast: Contrast
    effects: Mapping[int, float]
    """By seed, over the seeds that all arms completed."""
    absent: str
    """Why arms are missing; empty where none is."""
    paper: float | None
    """The paper's own effect."""

    @property
    def verdict(self) -> Verdict:
        """Holds, fails or undecided."""
        return "undecided" if self.absent else decide(self.effects, self.contrast.side, self.part.digits)


@dataclass(frozen=True)
class Judged:
    """A claim on one dataset."""

    outcomes: Sequence[Outcome]
    verdict: Verdict


@dataclass(frozen=True)
class Page:
    """All claims on one dataset."""

    panels: Mapping[StudyName, Panel]
    judged: Mapping[str, Judged]
    """By the claim's id; a claim of a study that does not run on the dataset is absent."""

    @property
    def panel(self) -> Panel:
        """Any of its studies', for what they share."""
        return next(iter(self.panels.values()))


def decide(effects: Mapping[int, float], side: Side, digits: int) -> Verdict:
    """The verdict on effects by seed; an equality holds where every one rounds to 0 at so many digits."""
    summary = summarise(effects)
    interval = find_interval(summary) if summary else None
    if interval is None:
        return "undecided"
    low, high = interval
    if side == "=":
        if all(round(effect, digits) == 0 for effect in effects.values()):
            return "holds"
        return "fails" if low > 0 or high < 0 else "undecided"
    if side == "<":
        low, high = -high, -low
    if low > 0:
        return "holds"
    return "fails" if high < 0 or low == high == 0 else "undecided"


def _all_hold(verdicts: Sequence[Verdict]) -> Verdict:
    if "fails" in verdicts:
        return "fails"
    return "undecided" if "undecided" in verdicts else "holds"


def _most_hold(verdicts: Sequence[Verdict]) -> Verdict:
    if 2 * verdicts.count("holds") > len(verdicts):
        return "holds"
    return "fails" if 2 * verdicts.count("fails") >= len(verdicts) else "undecided"


def _absence(contrast: Contrast, panel: Panel, key: str) -> str:
    if contrast.lacks:
        return f"params.yaml has no {contrast.lacks}"
    if unknown := [arm for arm in contrast.weights if arm not in panel.arms]:
        return f"{NOT_RUN}: {_list_arms(unknown)}"
    empty = [arm for arm in contrast.weights if not panel.values(arm, key)]
    return f"no completed run of {_list_arms(empty)}" if empty else ""


def _list_arms(arms: Sequence[str]) -> str:
    return ", ".join(f"`{arm}`" for arm in arms)


def _weigh(contrast: Contrast, values: Mapping[str, float]) -> float:
    terms = [weight * values[arm] for arm, weight in contrast.weights.items()]
    return round(math.fsum([*terms, contrast.offset]), NOISE_DIGITS)


def _paper_effect(contrast: Contrast, key: str, table: Table | None, dataset: str) -> float | None:
    found = table.paper.values.get(dataset, {}) if table is not None and table.paper is not None else {}
    values = {arm: found[arm][key] for arm in contrast.weights if key in found.get(arm, {})}
    return _weigh(contrast, values) if values and len(values) == len(contrast.weights) else None


def judge_contrast(part: Comparison, contrast: Contrast, panel: Panel, table: Table | None) -> Outcome:
    """A contrast over the seeds that all its arms completed."""
    values = {arm: panel.values(arm, part.key) for arm in contrast.weights}
    seeds = [seed for seed in panel.seeds if all(seed in by_seed for by_seed in values.values())]
    effects = {seed: _weigh(contrast, {arm: values[arm][seed] for arm in values}) for seed in seeds}
    absent = _absence(contrast, panel, part.key)
    paper = _paper_effect(contrast, part.key, table, panel.dataset)
    return Outcome(part, contrast, {} if absent else effects, absent, paper)


def judge_claim(claim: Claim, panel: Panel, sweep: Sweep, table: Table | None) -> Judged:
    """A claim on one dataset: it fails with one of its comparisons, and holds with all.

    Args:
        table: the one with the paper's values, if any.
    """
    outcomes: list[Outcome] = []
    verdicts: list[Verdict] = []
    for part in claim.comparisons:
        series = [
            [judge_contrast(part, contrast, panel, table) for contrast in contrasts]
            for contrasts in find_contrasts(part, panel, sweep)
        ]
        outcomes += [outcome for group in series for outcome in group]
        combine = _most_hold if isinstance(part, Extreme) and part.most else _all_hold
        verdicts.append(combine([_all_hold([outcome.verdict for outcome in group]) for group in series]))
    return Judged(outcomes, _all_hold(verdicts))


def judge_claims(project: Project, dataset: str, panels: Mapping[StudyName, Panel]) -> Page:
    """All claims on a dataset whose studies have these panels."""
    judged = {}
    for claim in project.claims:
        if (panel := panels.get(claim.study)) is not None:
            sweep = partial(find_points, project, dataset, panel.arms)
            table = project.tables[claim.table] if claim.table is not None else None
            judged[claim.id] = judge_claim(claim, panel, sweep, table)
    return Page(panels, judged)
