"""Claims of the paper to verdicts over records."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pipeline.report.contrasts import Contrast, Side, Sweep, find_contrasts
from pipeline.report.panel import NOT_RUN, Panel, read_panel
from pipeline.report.statistics import find_interval, summarise
from pipeline.report.sweeps import find_points
from pipeline.schema.base import BASELINE
from pipeline.schema.claim import Claim, Comparison, Equal, Extreme
from pipeline.schema.panel import STUDIES, StudyName
from pipeline.schema.project import Project
from pipeline.schema.record import DdpmRecord, Protocol
from pipeline.schema.table import Table

Verdict = Literal["holds", "fails", "undecided"]
Unit = Literal["seeds", "sets"]
NOISE_DIGITS = 9
"""Decimals of an effect that are kept: what lies below is the rounding of floating-point numbers."""
_FREE = {"weights", "sets", "versions"}
"""Fields of a protocol in which arms may differ and be compared all the same."""


@dataclass(frozen=True)
class Outcome:
    """A contrast on one dataset."""

    part: Comparison
    contrast: Contrast
    paper: float | None
    """The paper's own effect."""
    effects: Mapping[int, float]
    """By seed, over the seeds that all arms completed; or by sample set of the only such seed."""
    unit: Unit = "seeds"
    """Of the effects. Over sets, a verdict is about the trained models at hand, not about their training."""
    obstacle: str = ""
    """Why there is no verdict, whatever the effects; empty where there can be one."""

    @property
    def verdict(self) -> Verdict:
        """Holds, fails or undecided."""
        return "undecided" if self.obstacle else decide(self.effects, self.contrast.side, self.part.digits)


@dataclass(frozen=True)
class Judged:
    """A claim on one dataset."""

    outcomes: Sequence[Outcome]
    verdict: Verdict

    @property
    def of_one_seed(self) -> bool:
        """Whether the verdict would not stand without comparisons over the sample sets of one seed."""
        if self.verdict == "undecided":
            return False
        over_sets = [outcome.unit == "sets" for outcome in self.outcomes if outcome.verdict == self.verdict]
        return any(over_sets) if self.verdict == "holds" else all(over_sets)


@dataclass(frozen=True)
class Page:
    """All claims on one dataset."""

    panels: Mapping[StudyName, Panel]
    judged: Mapping[str, Judged]
    """By the claim's id; a claim of a study that does not run on the dataset is absent."""
    replicates: Sequence[Outcome]
    """Arms that differ from another in their training's random numbers alone, against that other."""

    @property
    def panel(self) -> Panel:
        """Any of its studies', for what they share."""
        return next(iter(self.panels.values()))


def decide(effects: Mapping[int, float], side: Side, digits: int) -> Verdict:
    """The verdict on effects by seed or set; an equality holds where every one rounds to 0 at so many digits."""
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


def _find_obstacle(contrast: Contrast, panel: Panel, key: str) -> str:
    if contrast.lacks:
        return f"params.yaml has no {contrast.lacks}"
    if unknown := [arm for arm in contrast.weights if arm not in panel.arms]:
        return f"{NOT_RUN}: {_list_arms(unknown)}"
    empty = [arm for arm in contrast.weights if not panel.values(arm, key)]
    if empty:
        return f"no completed run of {_list_arms(empty)}"
    differing = _compare_protocols(contrast, panel)
    return f"the protocols differ in {', '.join(differing)}" if differing else ""


def _compare_protocols(contrast: Contrast, panel: Panel) -> list[str]:
    """The fields in which the protocols of a contrast's arms differ, so that their scores say nothing of the arms."""
    records = [record for arm in contrast.weights for record in panel.completed(arm).values()]
    protocols = [record.protocol for record in records if isinstance(record, DdpmRecord)]
    fields = [name for name in Protocol.model_fields if name not in _FREE]
    return [name for name in fields if len({getattr(protocol, name) for protocol in protocols}) > 1]


def _list_arms(arms: Sequence[str]) -> str:
    return ", ".join(f"`{arm}`" for arm in arms)


def _weigh(contrast: Contrast, values: Mapping[str, float]) -> float:
    terms = [weight * values[arm] for arm, weight in contrast.weights.items()]
    return round(math.fsum([*terms, contrast.offset]), NOISE_DIGITS)


def _pair(contrast: Contrast, values: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """The contrast for each seed, or set, that all arms have."""
    first, *others = values.values()
    common = [index for index in first if all(index in other for other in others)]
    return {index: _weigh(contrast, {arm: found[index] for arm, found in values.items()}) for index in common}


def _paper_effect(contrast: Contrast, key: str, table: Table | None, dataset: str) -> float | None:
    found = table.paper.values.get(dataset, {}) if table is not None and table.paper is not None else {}
    values = {arm: found[arm][key] for arm in contrast.weights if key in found.get(arm, {})}
    return _weigh(contrast, values) if values and len(values) == len(contrast.weights) else None


def judge_contrast(part: Comparison, contrast: Contrast, panel: Panel, table: Table | None) -> Outcome:
    """A contrast over the seeds that all its arms completed; over sample sets, where they share a single seed.

    Set k of every arm is drawn with the same noise, so sets are paired as seeds are.
    """
    outcome = partial(Outcome, part, contrast, _paper_effect(contrast, part.key, table, panel.dataset))
    if obstacle := _find_obstacle(contrast, panel, part.key):
        return outcome({}, obstacle=obstacle)
    effects = _pair(contrast, {arm: panel.values(arm, part.key) for arm in contrast.weights})
    if len(effects) != 1:
        return outcome(effects)
    (seed,) = effects
    sets = {arm: panel.set_values(arm, seed, part.key) for arm in contrast.weights}
    counts = [len(values) for values in sets.values()]
    if len(set(counts)) > 1:
        return outcome(effects, obstacle=f"{' and '.join(map(str, counts))} sample sets cannot be paired")
    return outcome(_pair(contrast, sets), "sets") if counts[0] > 1 else outcome(effects)


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


def _find_replicates(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Arms that replicate another one, each with that other."""
    pairs = []
    for arm in arms:
        original = ",".join(part for part in arm.split(",") if not part.startswith("replicate=")) or BASELINE
        if original != arm:
            pairs.append((arm, original))
    return pairs


def judge_replicates(claims: Sequence[Claim], panel: Panel) -> list[Outcome]:
    """What another training of the same network changes, in every key that these claims compare."""
    digits = {part.key: part.digits for claim in claims for part in claim.comparisons}
    outcomes = []
    for arm, original in _find_replicates(panel.arms):
        for key in digits:
            part = Equal(kind="equal", key=key, digits=digits[key], arm=arm, reference=original)
            contrast = Contrast(f"{key}: `{arm}` = `{original}`", "=", {arm: 1.0, original: -1.0})
            outcomes.append(judge_contrast(part, contrast, panel, None))
    return outcomes


def judge_claims(project: Project, dataset: str, panels: Mapping[StudyName, Panel]) -> Page:
    """All claims on a dataset whose studies have these panels."""
    judged, replicates = {}, []
    for claim in project.claims:
        if (panel := panels.get(claim.study)) is not None:
            sweep = partial(find_points, project, dataset, panel.arms)
            table = project.tables[claim.table] if claim.table is not None else None
            judged[claim.id] = judge_claim(claim, panel, sweep, table)
    for study, panel in panels.items():
        replicates += judge_replicates([claim for claim in project.claims if claim.study == study], panel)
    return Page(panels, judged, replicates)


def judge_records(root: Path, project: Project) -> list[Page]:
    """All claims on each dataset on which a study runs, by the records there are."""
    pages = []
    for dataset in project.panel.datasets:
        studies = [study for study in STUDIES if dataset in project.panel.active(study)]
        if studies:
            panels = {study: read_panel(root, project, study, dataset) for study in studies}
            pages.append(judge_claims(project, dataset, panels))
    return pages
