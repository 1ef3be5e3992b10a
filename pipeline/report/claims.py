"""Claims of the paper to verdicts over records.

In claims that compare trained runs, too few seeds decide nothing, whatever their interval. Those about what is exactly
known are decided by a tolerance, or by the record's own standard errors.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from pipeline.report.contrasts import Contrast, Side, Sweep, find_contrasts
from pipeline.report.panel import NOT_RUN, Panel, read_panels
from pipeline.report.statistics import find_interval, summarise
from pipeline.report.sweeps import find_points
from pipeline.report.views import find_views
from pipeline.schema.arm import Arm
from pipeline.schema.claim import Agrees, Claim, Comparison, Equal, Extreme
from pipeline.schema.project import Project
from pipeline.schema.table import Table

Verdict = Literal["holds", "fails", "undecided", "too few seeds", "not run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Unit = Literal["seeds", "sets"]
NOISE_DIGITS = 12
"""Digits of an effect's greatest term that are kept: what lies below is the rounding of floating-point numbers."""

REPLICATE = "replicate"
"""The field of a study that changes nothing but the random numbers of a training."""


@dataclass(frozen=True)
class Outcome:
    """A contrast on one case."""

    part: Comparison
    contrast: Contrast
    paper: float | None
    """The paper's own effect."""
    effects: Mapping[int, float]
    """By seed, over the seeds that all arms completed; or by sample set of the only such seed."""
    unit: Unit = "seeds"
    """Of the effects."""
    not_run: str = ""
    """Which runs there are not, without which there is no comparison; empty where all are there."""
    obstacle: str = ""
    """Why runs that are there cannot be compared; empty where they can."""
    least: int = 2
    """Seeds below which there is no verdict."""
    elsewhere: tuple[str, float] | None = None
    """Where the paper has no effect on this case: another one with its effect, the first that it has."""
    margin: float | None = None
    """How far from 0 the effects may be where the number is known: each, or their mean by its standard error."""

    @property
    def seeds(self) -> int:
        """Behind the effects."""
        return 1 if self.unit == "sets" else len(self.effects)

    @property
    def verdict(self) -> Verdict:
        """Of this comparison."""
        if self.not_run:
            return "not run"
        if self.obstacle:
            return "undecided"
        if self.seeds < self.least:
            return "too few seeds"
        if self.contrast.each:
            return _decide_each(self.effects, self.contrast)
        if self.margin is not None:
            summary = summarise(self.effects)
            return "holds" if summary is not None and abs(summary.mean) <= self.margin else "fails"
        return decide(self.effects, self.contrast.side, self.part.digits, self.contrast.tolerance)


@dataclass(frozen=True)
class Compared:
    """A comparison on one case: its outcomes, those of one series together."""

    part: Comparison
    series: Sequence[Sequence[Outcome]]


@dataclass(frozen=True)
class Judged:
    """A claim on one case."""

    comparisons: Sequence[Compared]
    verdict: Verdict

    @property
    def outcomes(self) -> list[Outcome]:
        """Of all comparisons."""
        return [outcome for compared in self.comparisons for group in compared.series for outcome in group]


@dataclass(frozen=True)
class Page:
    """All claims on one case."""

    panels: Mapping[str, Panel]
    judged: Mapping[str, Judged]
    """By the claim's id; a claim of a study that does not run on the case is absent."""
    replicates: Sequence[Outcome]
    """Arms that differ from another in their training's random numbers alone, against that other."""

    @property
    def panel(self) -> Panel:
        """Any of its studies', for what they share."""
        return next(iter(self.panels.values()))


def _decide_each(effects: Mapping[int, float], contrast: Contrast) -> Verdict:
    """The verdict where nothing is left to chance: one seed on the other side is enough to fail."""
    if contrast.side == "=":
        assert contrast.tolerance is not None
        return "holds" if all(abs(effect) <= contrast.tolerance for effect in effects.values()) else "fails"
    sign = -1 if contrast.side == "<" else 1
    return "holds" if all(sign * effect > 0 for effect in effects.values()) else "fails"


def decide(effects: Mapping[int, float], side: Side, digits: int, tolerance: float | None = None) -> Verdict:
    """The verdict on effects by seed or set.

    An inequality is decided by the side of 0 on which the 95 % interval of the mean lies; where all effects are 0, they
    are evidence of nothing. An equality holds where the mean rounds to 0 at `digits` decimals, and its interval stays
    within one unit of the last of them; it fails where the interval excludes 0. With a tolerance, it holds where the
    interval stays within that, and fails where it lies outside.
    """
    summary = summarise(effects)
    interval = find_interval(summary) if summary else None
    if summary is None or interval is None:
        return "undecided"
    low, high = interval
    if tolerance is not None:
        if -tolerance <= low and high <= tolerance:
            return "holds"
        return "fails" if low > tolerance or high < -tolerance else "undecided"
    if side == "=":
        unit = 10.0**-digits
        if round(summary.mean, digits) == 0 and -unit < low and high < unit:
            return "holds"
        return "fails" if low > 0 or high < 0 else "undecided"
    if side == "<":
        low, high = -high, -low
    if low > 0:
        return "holds"
    return "fails" if high < 0 else "undecided"


def _all_hold(verdicts: Sequence[Verdict]) -> Verdict:
    """What is not run cannot be judged; else one that fails is enough to fail."""
    order: tuple[Verdict, ...] = ("not run", "fails", "too few seeds", "undecided")
    return next((verdict for verdict in order if verdict in verdicts), "holds")


def _most_hold(verdicts: Sequence[Verdict]) -> Verdict:
    """More than half of those that were run."""
    run = [verdict for verdict in verdicts if verdict != "not run"]
    if not run:
        return "not run"
    if 2 * run.count("holds") > len(run):
        return "holds"
    if 2 * run.count("fails") >= len(run):
        return "fails"
    return "too few seeds" if "too few seeds" in run else "undecided"


def _find_absent(contrast: Contrast, panel: Panel) -> str:
    """What a contrast lacks: arms that params.yaml does not ask for, or all records of one."""
    if contrast.lacks:
        return contrast.lacks
    if unknown := [arm for arm in contrast.weights if arm not in panel.arms]:
        return f"{NOT_RUN}: {_list_arms(unknown)}"
    empty = [arm for arm in contrast.weights if not panel.records.get(arm)]
    return f"no record of {_list_arms(empty)}" if empty else ""


def _find_obstacle(contrast: Contrast, panel: Panel, key: str) -> str:
    """Why runs that are there cannot be compared."""
    if empty := [arm for arm in contrast.weights if not panel.values(arm, key)]:
        return f"no completed run of {_list_arms(empty)}"
    values = [value for arm in contrast.weights for value in panel.values(arm, key).values()]
    if contrast.logs and min(values) <= 0:
        return f"{key} is not above 0, so that it has no logarithm"
    records = [record for arm in contrast.weights for record in panel.completed(arm).values()]
    differing = find_views(panel.study).find_differences(records)
    return f"the protocols differ in {', '.join(differing)}" if differing else ""


def _list_arms(arms: Sequence[str]) -> str:
    return ", ".join(f"`{arm}`" for arm in arms)


def _weigh(contrast: Contrast, values: Mapping[str, float]) -> float:
    found = {arm: math.log(value) if contrast.logs else value for arm, value in values.items()}
    terms = [*(weight * found[arm] for arm, weight in contrast.weights.items()), contrast.offset]
    greatest = max(map(abs, terms))
    return round(math.fsum(terms), NOISE_DIGITS - math.ceil(math.log10(greatest))) if greatest else 0.0


def _pair(contrast: Contrast, values: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """The contrast for each seed, or set, that all arms have."""
    first, *others = values.values()
    common = [index for index in first if all(index in other for other in others)]
    return {index: _weigh(contrast, {arm: found[index] for arm, found in values.items()}) for index in common}


def _paper_effect(contrast: Contrast, key: str, table: Table | None, case: str) -> float | None:
    if contrast.logs:
        return None
    found = table.paper.values.get(case, {}) if table is not None and table.paper is not None else {}
    values = {arm: found[arm][key] for arm in contrast.weights if key in found.get(arm, {})}
    return _weigh(contrast, values) if values and len(values) == len(contrast.weights) else None


def _find_paper(
    contrast: Contrast, key: str, table: Table | None, case: str
) -> tuple[float | None, tuple[str, float] | None]:
    """The paper's effect on the case; and without it, on the first other one that has one."""
    own = _paper_effect(contrast, key, table, case)
    cases = table.paper.values if own is None and table is not None and table.paper is not None else {}
    effects = [(other, effect) for other in cases if (effect := _paper_effect(contrast, key, table, other)) is not None]
    return own, next(iter(effects), None)


def judge_contrast(part: Comparison, contrast: Contrast, panel: Panel, table: Table | None, least: int) -> Outcome:
    """A contrast over the seeds that all its arms completed; over sample sets, where they share a single seed.

    Set k of every arm is drawn with the same noise, so sets are paired as seeds are.

    Args:
        least: seeds below which there is no verdict.
    """
    own, other = _find_paper(contrast, part.key, table, panel.case)
    outcome = partial(Outcome, part, contrast, own, least=least, elsewhere=other)
    if absent := _find_absent(contrast, panel):
        return outcome({}, not_run=absent)
    if obstacle := _find_obstacle(contrast, panel, part.key):
        return outcome({}, obstacle=obstacle)
    if isinstance(part, Agrees):
        return _judge_agreement(part, contrast, panel)
    effects = _pair(contrast, {arm: panel.values(arm, part.key) for arm in contrast.weights})
    if contrast.each:
        return replace(outcome(effects), least=1)
    if len(effects) != 1 or contrast.logs:  # a set's number may have no logarithm where the mean has one
        return outcome(effects)
    (seed,) = effects
    sets = {arm: panel.set_values(arm, seed, part.key) for arm in contrast.weights}
    counts = [len(values) for values in sets.values()]
    if len(set(counts)) > 1:
        return outcome(effects, obstacle=f"{' and '.join(map(str, counts))} sample sets cannot be paired")
    return outcome(_pair(contrast, sets), "sets") if counts[0] > 1 else outcome(effects)


def _judge_agreement(part: Agrees, contrast: Contrast, panel: Panel) -> Outcome:
    """An arm's number against what theory gives, over its seeds."""
    arm, exact, stderr = part.arm, part.exact, panel.values(part.arm, f"{part.key}_stderr")
    effects = {}
    for seed, value in panel.values(arm, part.key).items():
        truth = exact if exact is not None else panel.values(arm, f"{part.key}_exact").get(seed)
        if truth is not None and (part.tolerance is not None or seed in stderr):
            effects[seed] = value - truth
    if not effects:
        return Outcome(part, contrast, None, {}, obstacle=f"{part.key} has no exact value, or no standard error")
    margin = part.tolerance
    if margin is None:  # the error of a mean of independent values
        margin = part.errors * math.sqrt(math.fsum(stderr[seed] ** 2 for seed in effects)) / len(effects)
    return Outcome(part, contrast, None, effects, least=1, margin=margin)


def compare_runs(claim: Claim, panel: Panel, sweep: Sweep, table: Table | None, least: int) -> list[Compared]:
    """The comparisons of a claim on one case.

    Args:
        table: the one with the paper's values, if any.
        least: seeds below which there is no verdict.
    """
    return [
        Compared(
            part,
            [
                [judge_contrast(part, contrast, panel, table, least) for contrast in contrasts]
                for contrasts in find_contrasts(part, panel, sweep)
            ],
        )
        for part in claim.comparisons
    ]


def judge(comparisons: Sequence[Compared], peers: Sequence[Sequence[Compared]]) -> Verdict:
    """A claim fails with one of its comparisons, and holds with all.

    Args:
        peers: the same comparisons on every case of this scale, this one among them: what the paper says of most
            series is a statement about all of them.
    """
    verdicts = []
    for index, compared in enumerate(comparisons):
        most = isinstance(compared.part, Extreme) and compared.part.most
        series = [group for peer in peers for group in peer[index].series] if most else compared.series
        judged = [_all_hold([outcome.verdict for outcome in group]) for group in series]
        verdicts.append(_most_hold(judged) if most else _all_hold(judged))
    return _all_hold(verdicts)


def _find_replicates(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Arms that replicate another one, each with that other."""
    found = [(arm, {key: value for key, value in arm.overrides.items() if key != REPLICATE}) for arm in arms]
    return [(arm, Arm(others)) for arm, others in found if REPLICATE in arm.overrides]


def judge_replicates(claims: Sequence[Claim], panel: Panel) -> list[Outcome]:
    """What another training of the same network changes, in every key that these claims compare."""
    digits = {part.key: part.digits for claim in claims for part in claim.comparisons}
    outcomes = []
    for arm, original in _find_replicates(panel.arms):
        for key in digits:
            part = Equal(kind="equal", key=key, digits=digits[key], arm=arm, reference=original)
            contrast = Contrast(f"{key}: `{arm}` = `{original}`", "=", {arm: 1.0, original: -1.0})
            outcomes.append(judge_contrast(part, contrast, panel, None, least=2))
    return outcomes


def sort_claims(claims: Sequence[Claim], pages: Sequence[Page]) -> dict[Verdict, list[Claim]]:
    """The claims of each verdict; one that is judged on several cases may be in several."""
    found: dict[Verdict, list[Claim]] = {verdict: [] for verdict in VERDICTS}
    for claim in claims:
        verdicts = {page.judged[claim.id].verdict for page in pages if claim.id in page.judged}
        for verdict in sorted(verdicts):
            found[verdict].append(claim)
    return found


def list_claims(project: Project) -> list[Claim]:
    """The claims of all studies, in the report's order."""
    return [claim for file in project.claims.values() for claim in file.claims]


def _name_arms(claim: Claim, project: Project, panel: Panel) -> Claim:
    """The claim with its arms as they are called on a case, whose baseline may have what an arm asks for."""

    def rename(part: Comparison) -> Comparison:
        names = {key: getattr(part, key, None) for key in ("arm", "reference")}
        update = {key: project.canonicalise(panel.study, panel.case, arm) for key, arm in names.items() if arm}
        return part.model_copy(update=update)

    return claim.model_copy(update={"comparisons": [rename(part) for part in claim.comparisons]})


def _compare_claims(project: Project, panels: Mapping[str, Panel]) -> dict[str, list[Compared]]:
    """The comparisons of the claims about these studies, by the claim's id."""
    found = {}
    for study, panel in panels.items():
        file, sweep = project.claims[study], partial(find_points, panel)
        for claim in (claim for claim in file.claims if claim.covers(panel.case)):
            table = project.tables[claim.table] if claim.table is not None else None
            found[claim.id] = compare_runs(_name_arms(claim, project, panel), panel, sweep, table, file.seeds)
    return found


def judge_claims(project: Project, cases: Sequence[Mapping[str, Panel]]) -> list[Page]:
    """All claims on each case.

    Args:
        cases: for each, the panels of the studies that run on it.
    """
    compared = [_compare_claims(project, panels) for panels in cases]
    scales = [next(iter(panels.values())).scale for panels in cases]
    pages = []
    for panels, mine, scale in zip(cases, compared, scales, strict=True):
        same_scale = [other for other, its in zip(compared, scales, strict=True) if its == scale]
        judged = {
            name: Judged(comparisons, judge(comparisons, [other[name] for other in same_scale if name in other]))
            for name, comparisons in mine.items()
        }
        replicates = [
            outcome
            for study, panel in panels.items()
            for outcome in judge_replicates(project.claims[study].claims, panel)
        ]
        pages.append(Page(panels, judged, replicates))
    return pages


def judge_records(root: Path, project: Project) -> list[Page]:
    """All claims on each case on which a study runs, by the records there are."""
    cases: dict[tuple[str, str], dict[str, Panel]] = {}
    for study in project.specs:
        for panel in read_panels(root, project, study):
            cases.setdefault((panel.case, panel.scale), {})[study] = panel
    return judge_claims(project, list(cases.values()))
