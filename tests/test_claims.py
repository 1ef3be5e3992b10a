"""Claims from records made by hand: what holds, what fails, what is undecided, and what the page says of it."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from panels import cells, ddpm_record, failure, make_panel, node_record
from workspace import copy_settings, find_settings

from pipeline.report.claims import Judged, Outcome, Page, compare_runs, decide, judge_claims, list_claims
from pipeline.report.panel import Panel
from pipeline.report.sweeps import find_points, read_coordinate
from pipeline.report.tidy import Row
from pipeline.report.verdicts import render_claims, render_verdicts
from pipeline.schema.arm import Arm
from pipeline.schema.base import SpecError
from pipeline.schema.claim import Claim, load_claims
from pipeline.schema.project import Project, load_project


@pytest.fixture(scope="module")
def settings() -> Project:
    """As they are."""
    return load_project(find_settings())


@pytest.fixture(scope="module")
def project(settings: Project) -> Project:
    """Two seeds are enough here, so that intervals can be followed by hand."""
    few = {study: file.model_copy(update={"seeds": 2}) for study, file in settings.claims.items()}
    return dataclasses.replace(settings, claims=few)


def claim_only(project: Project, study: str, *claims: Claim) -> Project:
    """With these claims alone."""
    none = {name: file.model_copy(update={"claims": []}) for name, file in project.claims.items()}
    return dataclasses.replace(project, claims={**none, study: none[study].model_copy(update={"claims": list(claims)})})


def panel_of(accuracy: dict[str, Sequence[float]], case: str = "digits", **fields: Any) -> Panel:
    """Arm to accuracies of seeds 0, 1, ..."""
    records = {arm: {seed: node_record(v) for seed, v in enumerate(values)} for arm, values in accuracy.items()}
    return make_panel(records, case, seeds=range(max(map(len, accuracy.values()))), **fields)


def find_verdict(project: Project, name: str, panel: Panel) -> Judged:
    """One claim of a study's claims.yaml."""
    return judge_claims(project, [{"node": panel}])[0].judged[name]


def effects(judged: Judged) -> list[list[float]]:
    return [list(outcome.effects.values()) for outcome in judged.outcomes]


def row(page: Page, project: Project, text: str) -> list[str]:
    """The cells of the comparison that contains a text."""
    line = next(line for line in render_claims(list_claims(project), [page]).splitlines() if text in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("effects", "side", "verdict"),
    [
        # Half-width: 12.71 std / sqrt(2) for two seeds, 4.30 std / sqrt(3) for three.
        ([-1.0, -1.1], "<", "holds"), ([-1.0, -1.1], ">", "fails"), ([1.0, 1.1], ">", "holds"),
        ([-1.0, 1.0], "<", "undecided"), ([-1.0, -3.0, -2.0], "<", "undecided"), ([-3.0, -5.0, -4.0], "<", "holds"),
        ([-9.0], "<", "undecided"), ([], "<", "undecided"),
        ([-1.0, -1.0], "<", "holds"), ([1.0, 1.0], "<", "fails"),
        # Equal to the last digit: no evidence of a direction.
        ([0.0, 0.0], "<", "undecided"), ([0.0, 0.0], ">", "undecided"), ([0.0, 0.0], "=", "holds"),
        ([6.0, 6.0], "=", "fails"), ([6.0, 6.1], "=", "fails"), ([0.0, 6.0], "=", "undecided"),
        ([0.0], "=", "undecided"),
        # One test batch of 79 took 32 evaluations, all others 26: the mean is printed as 26.0.
        ([0.0, 0.0, 6 / 79, 0.0, 0.0], "=", "holds"),
        # The mean is 0 by luck: the interval reaches beyond a tenth.
        ([6.0, -6.0, 6.0, -6.0, 0.0], "=", "undecided"),
        # Half-width 0.0248: far from one tenth, and still another number.
        ([0.30, 0.32, 0.28, 0.30, 0.30], "=", "fails"),
    ],
)  # fmt: skip
def test_a_verdict_is_where_the_interval_lies(effects: list[float], side: Any, verdict: str):
    assert decide(dict(enumerate(effects)), side, digits=1) == verdict


def test_an_effect_is_paired_by_seed(project: Project):
    panel = panel_of({"baseline": [90.0, 95.0, 92.0], "norm=batch": [89.0, 94.1, 90.9]})
    judged = find_verdict(project, "c1", panel)
    assert effects(judged) == [[-1.0, -0.9, -1.1]]
    assert judged.verdict == "holds"
    page = judge_claims(project, [{"node": panel}])[0]
    assert row(page, project, "accuracy: `norm=batch` < `baseline`")[2:] == [
        "holds", "-1.00", "-1.25 to -0.75", "3",
    ]  # fmt: skip


def test_what_is_undecided_says_how_many_seeds_would_decide(project: Project):
    # Mean -1, standard deviation 1: 7 seeds, by a table of t.
    panel = panel_of({"baseline": [90.0, 90.0, 90.0], "norm=batch": [88.0, 89.0, 90.0]})
    page = judge_claims(project, [{"node": panel}])[0]
    assert page.judged["c1"].verdict == "undecided"
    assert row(page, project, "accuracy: `norm=batch`")[2] == "undecided; n = 7 would decide"
    level = panel_of({"baseline": [90.0, 90.0], "norm=batch": [89.0, 91.0]})
    assert "no n up to 10000" in row(judge_claims(project, [{"node": level}])[0], project, "`norm=batch`")[2]


def test_one_seed_decides_nothing_and_equal_seeds_are_marked(project: Project):
    one = judge_claims(project, [{"node": panel_of({"baseline": [90.0], "norm=batch": [80.0]})}])[0]
    assert row(one, project, "accuracy: `norm=batch`")[2:] == ["too few seeds: 1 of 2", "-10.00", "—", "1"]
    # Differences that are equal but for the rounding of floating-point numbers.
    equal = panel_of({"baseline": [90.3, 10.7], "norm=batch": [90.1, 10.5]})
    page = judge_claims(project, [{"node": equal}])[0]
    assert row(page, project, "accuracy: `norm=batch`")[2] == "holds (no spread)"


def test_missing_and_failed_arms_are_named(project: Project):
    records = {"baseline": {0: node_record(90.0), 1: node_record(91.0)}, "norm=batch": {0: failure(), 1: failure()}}
    page = judge_claims(project, [{"node": make_panel(records)}])[0]
    assert row(page, project, "accuracy: `norm=batch`")[2] == "undecided: no completed run of `norm=batch`"
    assert row(page, project, "accuracy: `position=linear`")[2] == "not run: not in params.yaml: `position=linear`"
    text = render_claims(list_claims(project), [page])
    assert (
        "- node: failed: `norm=batch`, seed 1, after 30 steps, in epoch 2: the solver took more than 1000 steps."
        in text
    )
    records["norm=batch"] = {0: node_record(80.0)}
    page = judge_claims(project, [{"node": make_panel(records)}])[0]
    assert row(page, project, "accuracy: `norm=batch`")[2:] == ["too few seeds: 1 of 2", "-10.00", "—", "1"]
    assert "- node: missing: `norm=batch`, seed 1." in render_claims(list_claims(project), [page])


def test_a_claim_fails_with_one_comparison_and_holds_with_all(project: Project):
    gains = {"baseline": [90.0, 90.0], "position=linear": [91.0, 91.1]}
    assert find_verdict(project, "c3", panel_of(gains)).verdict == "holds"
    more = {
        "baseline": {seed: node_record(90.0) for seed in range(2)},
        "position=linear": {seed: node_record(91.0 + seed / 10, nfe=32.0) for seed in range(2)},
    }
    assert find_verdict(project, "c3", make_panel(more)).verdict == "fails"


def test_an_equality_with_a_number_is_to_the_decimals_that_the_paper_prints(project: Project):
    def records(sigmoid: float, relu: float) -> Panel:
        arms = {"activation=sigmoid": sigmoid, "baseline": relu}
        return make_panel({arm: {seed: node_record(90.0, nfe) for seed in range(2)} for arm, nfe in arms.items()})

    assert find_verdict(project, "c6", records(14.04, 26.0)).verdict == "holds"
    assert find_verdict(project, "c6", records(14.0, 20.0)).verdict == "fails"


def test_the_papers_effect_comes_from_its_table_and_stands_on_its_cases_only(project: Project):
    accuracy = {"baseline": [90.0, 91.0], "norm=batch": [89.0, 90.5]}
    cifar = judge_claims(project, [{"node": panel_of(accuracy, "cifar10", scale="paper")}])[0]
    assert row(cifar, project, "accuracy: `norm=batch`")[-1] == "-0.65"
    assert row(cifar, project, "nfe: `activation=sigmoid` = 14.0")[-1] == "+0.0"
    text = render_claims(list_claims(project), [cifar])
    assert "the paper's spread is unknown" in text
    assert "not the paper's scale" not in text
    digits = render_claims(list_claims(project), [judge_claims(project, [{"node": panel_of(accuracy)}])[0]])
    assert "paper: effect" not in digits
    assert cells(digits, "c1")[-1].endswith(" on digits (not the paper's scale)")


def test_a_claim_is_judged_where_its_study_runs(project: Project):
    panel = make_panel({"baseline": {0: ddpm_record(3.0)}, "position=mlp": {0: ddpm_record(2.0)}})
    page = judge_claims(project, [{"ddpm": panel}])[0]
    assert list(page.judged) == ["c5", "d1", "d2", "d3"]
    assert cells(render_verdicts(list_claims(project), [page]), "c1")[-1] == "—"
    assert row(page, project, "fid: `position=mlp` < `baseline`")[2:4] == ["too few seeds: 1 of 2", "-1.000"]


def test_four_seeds_decide_nothing_and_five_do(settings: Project):
    """The paper's number of seeds; effect, interval and n are shown all the same."""

    def page(n: int) -> Page:
        accuracy = {"baseline": [90.0 + seed for seed in range(n)], "norm=batch": [80.0 + 1.01 * k for k in range(n)]}
        return judge_claims(settings, [{"node": panel_of(accuracy)}])[0]

    assert page(4).judged["c1"].verdict == "too few seeds"
    assert row(page(4), settings, "accuracy: `norm=batch`")[2:] == [
        "too few seeds: 4 of 5", "-9.98", "-10.01 to -9.96", "4",
    ]  # fmt: skip
    assert cells(render_verdicts(list_claims(settings), [page(4)]), "c1")[-1].startswith("too few seeds on digits")
    assert page(5).judged["c1"].verdict == "holds"
    assert "Nothing is corrected" not in render_claims(list_claims(settings), [page(4)])
    # c1 could be decided, and c2, where no run differs.
    assert "if no arm had an effect, 0.1 of the 2 with enough seeds would" in render_claims(
        list_claims(settings), [page(5)]
    )


def test_a_claim_whose_arm_is_not_asked_for_is_not_run(project: Project):
    """Though its other comparison fails."""
    records = {
        "time=mlp,zero_bias=conv": {seed: node_record(80.0 + seed / 10) for seed in range(2)},
        "time=mlp,zero_bias=all": {seed: node_record(90.0) for seed in range(2)},
    }
    judged = find_verdict(project, "c4", make_panel(records))
    assert [outcome.verdict for outcome in judged.outcomes] == ["fails", "not run"]
    assert judged.verdict == "not run"
    records["time=mlp,zero_bias=time"] = {}
    judged = find_verdict(project, "c4", make_panel(records))
    assert judged.outcomes[1].not_run == "no record of `time=mlp,zero_bias=time`"
    assert judged.verdict == "not run"


def test_no_difference_in_any_run_is_no_evidence(project: Project):
    panel = panel_of({"baseline": [90.0, 91.0], "norm=batch": [90.0, 91.0]})
    (page,) = judge_claims(project, [{"node": panel}])
    assert row(page, project, "nfe: `norm=batch` > `baseline`")[2:] == [
        "undecided: no run differs",
        "+0.0",
        "no spread",
        "2",
    ]


def test_an_activation_is_judged_where_it_was_replaced(project: Project):
    """The digits' baseline replaces it in the ODE function, CIFAR's everywhere; the claim names both."""

    def verdicts(case: str, **nfe: float) -> list[str]:
        arms = {name.replace("__", ",").replace("_is_", "="): value for name, value in nfe.items()}
        panel = make_panel({arm: {k: node_record(90.0, v) for k in range(2)} for arm, v in arms.items()}, case)
        return [find_verdict(project, name, panel).verdict for name in ("c6", "c6_all")]

    sigmoid = {"baseline": 26.0, "activation_is_sigmoid": 20.0}
    assert verdicts("digits", **sigmoid) == ["fails", "not run"]
    assert verdicts("cifar10", **sigmoid) == ["not run", "fails"]
    assert verdicts("cifar10", **sigmoid, activation_is_sigmoid__activation_scope_is_ode=14.0) == ["holds", "fails"]


def test_arms_that_are_one_on_a_case_are_not_compared_with_themselves(project: Project):
    part = {"kind": "effect", "key": "nfe", "arm": "groups=4", "direction": "<", "reference": "baseline"}
    claim = {"id": "c0", "statement": "-", "source": "-", "comparisons": [part]}
    alone = claim_only(project, "node", Claim.model_validate(claim))
    (outcome,) = find_verdict(alone, "c0", panel_of({"baseline": [90.0, 91.0]})).outcomes
    assert (outcome.verdict, outcome.not_run) == ("not run", "both arms are `baseline` on this case")


# ---- Sample sets ---------------------------------------------------------------------------------------------------

STEPS = ["baseline", "position=mlp", "position=mlp,zero_bias=conv", "position=mlp,zero_bias=conv,groups=1"]
FIDS = (5.0, 5.2, 5.1)


def shift(change: Sequence[float]) -> list[float]:
    """The baseline's FIDs, changed set by set."""
    return [fid + by for fid, by in zip(FIDS, change, strict=True)]


def judge_sets(project: Project, *fids: Sequence[float], **more: Sequence[float]) -> Page:
    """The rows of Table 3 with one seed; further arms by name, with _ for =."""
    arms = dict(zip(STEPS, fids, strict=False)) | {name.replace("_", "="): values for name, values in more.items()}
    panel = make_panel({arm: {0: ddpm_record(*values)} for arm, values in arms.items()}, seeds=[0])
    return judge_claims(project, [{"ddpm": panel}])[0]


@pytest.mark.parametrize(
    ("change", "effect", "interval"),
    [
        # Mean and standard deviation by hand; half-width 4.302653 std / sqrt(3): 0.248 for 0.1.
        ([-1.0, -1.1, -0.9], "-1.000", "-1.248 to -0.752"),
        ([1.0, 1.1, 0.9], "+1.000", "+0.752 to +1.248"),
        ([-1.0, -1.0, -1.0], "-1.000", "no spread"),
    ],
)
def test_one_seed_shows_its_sample_sets_paired_by_set_and_decides_nothing(
    project: Project, change: list[float], effect: str, interval: str
):
    page = judge_sets(project, FIDS, shift(change))
    shown = row(page, project, "fid: `position=mlp` < `baseline`")[2:]
    assert shown == ["too few seeds: 1 of 2", effect, interval, "3 sets"]


def test_two_seeds_ignore_the_sets(project: Project):
    # The sets differ by 1 and -3, the seeds by -1.0 and -1.1: half-width 12.7062 * 0.0707107 / sqrt(2) = 0.635.
    records = {
        "baseline": {seed: ddpm_record(3.0, 7.0) for seed in range(2)},
        "position=mlp": {0: ddpm_record(4.0, 4.0), 1: ddpm_record(3.9, 3.9)},
    }
    page = judge_claims(project, [{"ddpm": make_panel(records)}])[0]
    assert row(page, project, "fid: `position=mlp` < `baseline`")[2:] == [
        "holds", "-1.050", "-1.685 to -0.415", "2",
    ]  # fmt: skip


def test_sets_that_cannot_be_paired_decide_nothing(project: Project):
    unequal = judge_sets(project, FIDS, [4.0, 4.2])
    assert row(unequal, project, "fid: `position=mlp` < `baseline`")[2:] == [
        "undecided: 2 and 3 sample sets cannot be paired", "-1.000", "—", "1",
    ]  # fmt: skip
    single = judge_sets(project, FIDS[:1], [4.0])
    assert row(single, project, "fid: `position=mlp` < `baseline`")[2:] == ["too few seeds: 1 of 2", "-1.000", "—", "1"]


def test_a_key_that_no_set_has_is_judged_over_seeds(project: Project):
    claim = {"id": "c0", "statement": "-", "source": "-"}
    part = {"kind": "effect", "key": "fid_best", "arm": "position=mlp", "direction": "<", "reference": "baseline"}
    panel = make_panel({"baseline": {0: ddpm_record(*FIDS)}, "position=mlp": {0: ddpm_record(1.0, 1.1, 1.2)}})
    claimed = Claim.model_validate({**claim, "comparisons": [part]})
    (compared,) = compare_runs(claimed, panel, lambda x, series: [], None, least=2)
    ((outcome,),) = compared.series
    assert (outcome.unit, outcome.verdict) == ("seeds", "too few seeds")
    assert list(outcome.effects.values()) == [-4.0]


def test_arms_of_different_protocols_are_not_compared(project: Project):
    def page(**protocol: Any) -> Page:
        records = {
            "baseline": {0: ddpm_record(*FIDS)}, "position=mlp": {0: ddpm_record(1.0, 1.1, 1.2, protocol=protocol)},
        }  # fmt: skip
        return judge_claims(project, [{"ddpm": make_panel(records, seeds=[0])}])[0]

    assert row(page(images=50, clip=True), project, "fid: `position=mlp` <")[2:] == [
        "undecided: the protocols differ in images, clip", "—", "—", "0",
    ]  # fmt: skip
    imported = page(weights="theirs", versions={"torch": "2.0"})
    assert imported.judged["c5"].outcomes[0].verdict == "too few seeds"
    assert len(imported.judged["c5"].outcomes[0].effects) == 3


def chance(page: Page, project: Project) -> list[str]:
    return [line for line in render_claims(list_claims(project), [page]).splitlines() if line.startswith("- Chance")]


def test_a_replicate_says_how_far_chance_alone_goes(project: Project):
    page = judge_sets(project, FIDS, [1.0] * 3, replicate_1=shift([-0.5, -0.6, -0.4]), replicate_2=[6.0, 6.2])
    assert chance(page, project) == [
        "- Chance of training (the same network, other random numbers): `replicate=1` and `baseline` differ by 0.500 "
        "in fid (0.252 to 0.748 over 3 sets of one seed), 0.050 in inception_score (0.025 to 0.075 over 3 sets of one "
        "seed), 0.0050 in noise_loss (no interval: n < 2), 0.005000 in time_use (no interval: n < 2); "
        "`replicate=2` and `baseline` differ by 1.000 in fid (no interval: n < 2), 0.100 in inception_score (no "
        "interval: n < 2), 0.0100 in noise_loss (no interval: n < 2), 0.010000 in time_use (no interval: n < 2). An "
        "effect no larger than this cannot be told from the chance of training."
    ]
    assert chance(judge_sets(project, FIDS, [1.0] * 3), project) == []


def test_a_replicate_of_another_arm_is_compared_with_that_one_over_its_seeds(project: Project):
    replicate = "position=mlp,replicate=3"
    records = {
        "position=mlp": {0: ddpm_record(4.0), 1: ddpm_record(4.0)},
        replicate: {0: ddpm_record(5.0), 1: ddpm_record(5.1)},
        "replicate=1": {0: ddpm_record(9.0)},
        "baseline": {0: failure()},
        "groups=1,replicate=1": {0: ddpm_record(9.0)},
    }
    (line,) = chance(judge_claims(project, [{"ddpm": make_panel(records)}])[0], project)
    assert f"`{replicate}` and `position=mlp` differ by 1.050 in fid (0.415 to 1.685 over 2 seeds)" in line
    assert "`replicate=1` and `baseline` differ by an unknown amount (no completed run of `baseline`); " in line
    assert "`groups=1` differ by an unknown amount (not in params.yaml: `groups=1`). An effect" in line


# ---- Claims about sweeps -------------------------------------------------------------------------------------------


def test_a_sweep_is_the_arms_that_override_its_fields_only():
    arms = ["baseline", "groups=1", "groups=8,channels=8", "channels=8", "norm=batch", "position=linear,groups=1"]
    panel = panel_of({arm: [90.0] for arm in arms})
    points = find_points(panel, "groups", "channels")
    assert [(point.arm, point.series, point.x) for point in points] == [
        ("channels=8", 8, 4), ("groups=8,channels=8", 8, 8), ("groups=1", 16, 1), ("baseline", 16, 4),
    ]  # fmt: skip
    assert [point.arm for point in find_points(panel, "groups", None)] == ["groups=1", "baseline"]


def test_the_baselines_scale_is_pytorchs_default():
    """Uniform within 1 / sqrt(fan-in), against the weights of a convolution."""
    import torch

    panel = panel_of({arm: [90.0] for arm in ("baseline", "norm=batch", "time=mlp")}, "cifar10")
    (point,) = find_points(panel, "weight_std", None)
    assert point.default
    assert point.x == pytest.approx(1 / math.sqrt(27 * 257))
    torch.manual_seed(0)
    assert torch.nn.Conv2d(257, 256, 3).weight.std().item() == pytest.approx(point.x, rel=0.01)
    assert read_coordinate(panel.runs["time=mlp"], "weight_std") == pytest.approx(1 / math.sqrt(27 * 256))


# Accuracy falls by 1 for each doubling of the groups, and by 3 more at G = C.
FALLING = {"groups=2": 97.0, "baseline": 96.0, "groups=8": 95.0, "groups=16": 91.0}


def swept(**changed: float) -> Panel:
    """The digits' sweep over groups at C = 16, two seeds: the second is 0.1 above the first, at G = 1 0.2."""
    accuracy = {"groups=1": 98.0, **FALLING, **changed}
    return panel_of({arm: [value, value + (0.2 if arm == "groups=1" else 0.1)] for arm, value in accuracy.items()})


def test_a_falling_sweep_holds_in_every_part(project: Project):
    judged = find_verdict(project, "c8", swept())
    assert judged.verdict == "holds"
    trend, mean, nearest, best_mean, best = judged.outcomes
    # Least squares by hand, without G = C: x = 0, 1, 2, 3 has mean 1.5 and sum of squares 5.
    slope = (-1.5 * 98 - 0.5 * 97 + 0.5 * 96 + 1.5 * 95) / 5
    assert list(trend.effects.values()) == pytest.approx([slope, slope - 1.5 * 0.1 / 5])
    assert list(mean.effects.values()) == pytest.approx([91 - 96.5, 91 - 96.5 - 0.025])
    assert (nearest.contrast.text, list(nearest.effects.values())) == (
        "accuracy: groups 16 < 8, next by mean, channels 16", [-4.0, -4.0],
    )  # fmt: skip
    assert list(best_mean.effects.values()) == pytest.approx([98 - 94.75, 98 - 94.75 + 0.1])
    assert list(best.effects.values()) == pytest.approx([1.0, 1.1])


def test_a_trend_may_start_from_an_arm_and_have_series_of_words():
    """1 more for each doubling of G, with norm=layer 3 less: from G = 1 to the baseline's 4."""
    rising = {"groups=1": 11.0, "groups=2": 12.0, "norm=layer,groups=1": 13.0, "norm=layer": 7.0}
    panel = panel_of({arm: [value, value] for arm, value in rising.items()})
    trend = {"kind": "trend", "key": "accuracy", "x": "groups", "direction": "<"}
    (one,), (two,) = judge_series(panel, **trend, series="norm")
    assert list(one.effects.values()) == pytest.approx([1.0, 1.0])
    assert list(two.effects.values()) == pytest.approx([-3.0, -3.0])
    assert two.contrast.text == "accuracy: slope per doubling of groups < 0, norm layer"
    ((fixed,),) = judge_series(panel, **trend, fixed="norm=layer")
    assert fixed.effects == two.effects
    assert fixed.contrast.text == "accuracy: slope per doubling of groups < 0, `norm=layer`"


def judge_series(panel: Panel, **part: Any) -> Any:
    """The series of a claim's only comparison, each with its outcomes."""
    claim = Claim.model_validate({"id": "c0", "statement": "-", "source": "-", "comparisons": [part]})
    (compared,) = compare_runs(claim, panel, partial(find_points, panel), None, 2)
    return compared.series


def test_one_that_is_lower_than_the_mean_but_not_lowest_fails(project: Project):
    judged = find_verdict(project, "c8", swept(**{"groups=8": 80.0}))
    assert [outcome.verdict for outcome in judged.outcomes[1:3]] == ["holds", "fails"]
    assert judged.verdict == "fails"


def test_a_sweep_without_its_end_is_not_run_and_says_so(project: Project):
    panel = panel_of({"groups=1": [98.0, 98.1], "baseline": [94.0, 94.0]})
    page = judge_claims(project, [{"node": panel}])[0]
    assert page.judged["c8"].verdict == "not run"
    assert row(page, project, "lowest at groups = channels")[2] == (
        "not run: params.yaml has no arm with groups = channels"
    )
    none = judge_claims(project, [{"node": panel_of({"baseline": [94.0, 94.0]})}])[0]
    assert row(none, project, "trend along groups")[2] == "not run: params.yaml has no arms that vary groups"


def test_the_trend_leaves_out_the_point_that_is_a_comparison_of_its_own(project: Project):
    """Level up to G = C, where it drops: no trend, and the lowest at G = C."""
    level = {"groups=1": 96.0, "groups=2": 96.0, "baseline": 96.0, "groups=8": 96.0, "groups=16": 90.0}
    judged = find_verdict(project, "c8", panel_of({arm: [value, value] for arm, value in level.items()}))
    assert [outcome.verdict for outcome in judged.outcomes[:3]] == ["undecided", "holds", "holds"]
    two = find_verdict(project, "c8", panel_of({"groups=1": [98.0, 98.1], "groups=16": [90.0, 90.0]}))
    assert two.outcomes[0].not_run == (
        "params.yaml has no arms with two values of groups, without groups = channels, channels 16"
    )


def highest(project: Project) -> Claim:
    """That part of claim c8 that speaks of most curves."""
    claim = next(claim for claim in list_claims(project) if claim.id == "c8")
    return Claim.model_validate({**claim.model_dump(), "comparisons": [claim.comparisons[-1].model_dump()]})


def curves(*best: float, case: str = "cifar10", scale: str = "paper") -> Panel:
    """Accuracies at G = 1 for one width after another; at G = 2 it is 90."""
    widths = dict(zip((8, 32, 64), best, strict=False))
    arms = {f"groups=1,channels={c}": [value, value + 0.1] for c, value in widths.items()}
    return panel_of({**arms, **{f"groups=2,channels={c}": [90.0, 90.0] for c in widths}}, case, scale=scale)


@pytest.mark.parametrize(
    ("cases", "verdicts"),
    [
        ([(95.0, 95.0, 85.0)], ["holds"]),
        ([(95.0, 85.0, 85.0)], ["fails"]),
        ([(95.0, 89.95, 85.0)], ["undecided"]),
        ([(95.0, 85.0)], ["fails"]),
        # The paper's four curves: best in 3 of 4 is "most", though in only half of those of one case.
        ([(95.0, 95.0), (95.0, 85.0)], ["holds", "holds"]),
        ([(95.0, 85.0), (85.0, 85.0)], ["fails", "fails"]),
    ],
)
def test_most_curves_of_one_scale_suffice_for_the_highest(
    project: Project, cases: list[tuple[float, ...]], verdicts: list[str]
):
    alone = claim_only(project, "node", highest(project))
    panels = [curves(*best, case=name) for name, best in zip(("cifar10", "cifar100"), cases, strict=False)]
    digits = curves(85.0, 85.0, 85.0, case="digits", scale="embedded")
    pages = judge_claims(alone, [{"node": panel} for panel in (*panels, digits)])
    assert [page.judged["c8"].verdict for page in pages] == [*verdicts, "fails"]
    text = render_verdicts(list_claims(alone), pages)
    assert "accuracy is highest at groups = 1 in 0 of 3 curves (digits)" in text
    best = sum(value > 90 for values in cases for value in values)
    assert f"in {best} of {sum(map(len, cases))} curves (cifar10" in text


def test_a_case_whose_sweep_is_not_run_does_not_count_among_the_curves(project: Project):
    alone = claim_only(project, "node", highest(project))
    empty = panel_of({"baseline": [90.0, 90.0]}, "cifar100", scale="paper")
    pages = judge_claims(alone, [{"node": curves(95.0, 95.0)}, {"node": empty}])
    assert pages[0].judged["c8"].verdict == "holds"
    assert "curves" not in render_verdicts(list_claims(alone), [pages[1]])


def test_the_page_counts_the_cells_in_which_one_group_is_best(project: Project):
    text = render_verdicts(list_claims(project), [judge_claims(project, [{"node": swept()}])[0]])
    assert "accuracy is highest at groups = 1 in 1 of 1 curves (digits)" in text


def test_wide_weights_are_compared_with_narrow_ones_and_the_default_is_narrow(project: Project):
    accuracy = {"baseline": [96.0, 96.2], "weight_std=1.0": [94.0, 94.2], "weight_std=10.0": [10.0, 10.0]}
    accuracy |= {"weight_std=100.0": [10.0, 10.0], "weight_std=1000.0": [80.0, 80.1], "norm=batch": [1.0, 1.0]}
    judged = find_verdict(project, "c9", panel_of(accuracy))
    assert effects(judged) == [pytest.approx([80 - 95, 80.1 - 95.2])]
    assert judged.verdict == "holds"
    assert dict(judged.outcomes[0].contrast.weights) == {
        "weight_std=1000.0": 1.0, "baseline": -0.5, "weight_std=1.0": -0.5,
    }  # fmt: skip
    narrow = panel_of({"baseline": [96.0, 96.0], "weight_std=1.0": [94.0, 94.0]})
    page = judge_claims(project, [{"node": narrow}])[0]
    assert "params.yaml has no arm with weight_std above 100" in row(page, project, "weight_std")[2]


def test_a_claim_is_judged_on_its_cases_alone(project: Project):
    claims = [
        claim.model_copy(update={"cases": ["cifar10"]}) if claim.id == "c1" else claim
        for claim in project.claims["node"].claims
    ]
    limited = project.claims["node"].model_copy(update={"claims": claims})
    arms = {"baseline": [92.0, 92.1], "norm=batch": [90.0, 90.1]}
    panels = [panel_of(arms), panel_of(arms, "cifar10", scale="paper")]
    everywhere = judge_claims(project, [{"node": panel} for panel in panels])
    changed = dataclasses.replace(project, claims={**project.claims, "node": limited})
    pages = judge_claims(changed, [{"node": panel} for panel in panels])
    assert ["c1" in page.judged for page in everywhere] == [True, True]
    assert ["c1" in page.judged for page in pages] == [False, True]
    assert pages[0].judged.keys() == everywhere[0].judged.keys() - {"c1"}
    assert pages[1].judged["c1"].verdict == everywhere[1].judged["c1"].verdict
    shown = cells(render_claims([claims[0]], pages), "c1")
    assert shown[-1].endswith("on cifar10")
    assert "digits" not in shown[-1]


def test_no_case_no_verdict_and_no_error(project: Project):
    claim = list_claims(project)[0]
    assert cells(render_claims([claim], []), claim.id)[-1] == "—"


# ---- Numbers that theory gives -------------------------------------------------------------------------------------


def measured_panel(**numbers: Sequence[float]) -> Panel:
    """A study that is measured, not trained: key to the values of seeds 0, 1, ... of its baseline."""
    seeds, arm = range(max(map(len, numbers.values()))), Arm({})
    panel = Panel("theory", "features", "features", "exact", {arm: seeds}, {}, {arm: dict.fromkeys(seeds, "there")})
    panel.__dict__["rows"] = [
        Row("theory", "features", arm, seed, None, key, value)
        for key, values in numbers.items()
        for seed, value in enumerate(values)
    ]
    return panel


def judge_part(panel: Panel, least: int = 5, **part: Any) -> Outcome:
    """The only comparison of a claim with one part."""
    claim = Claim.model_validate({"id": "c0", "statement": "-", "source": "-", "comparisons": [part]})
    (compared,) = compare_runs(claim, panel, partial(find_points, panel), None, least)
    ((outcome,),) = compared.series
    return outcome


@pytest.mark.parametrize(
    ("values", "errors", "verdict"),
    [
        # Mean 1.005; standard error of the mean sqrt(0.01^2 + 0.02^2) / 2 = 0.01118.
        ([1.02, 0.99], 3.0, "holds"), ([1.02, 0.99], 0.5, "holds"), ([1.02, 0.99], 0.4, "fails"),
        # Mean 1.04, three standard errors are 0.0335.
        ([1.05, 1.03], 3.0, "fails"), ([1.05, 1.03], 3.6, "holds"),
        ([1.02], 3.0, "holds"), ([1.02], 1.9, "fails"),
    ],
)  # fmt: skip
def test_a_number_agrees_within_its_standard_errors_whatever_the_count_of_seeds(
    values: list[float], errors: float, verdict: str
):
    panel = measured_panel(x=values, x_exact=[1.0, 1.0][: len(values)], x_stderr=[0.01, 0.02][: len(values)])
    outcome = judge_part(panel, kind="agrees", key="x", arm="baseline", errors=errors)
    assert outcome.verdict == verdict
    assert outcome.margin == pytest.approx(errors * (0.0111803 if len(values) == 2 else 0.01), rel=1e-5)
    fixed = judge_part(panel, kind="agrees", key="x", arm="baseline", errors=errors, exact=1.0)
    assert (fixed.verdict, fixed.effects) == (verdict, outcome.effects)


def test_a_number_agrees_where_each_seed_lies_within_the_tolerance():
    part: dict[str, Any] = {"kind": "agrees", "key": "x", "arm": "baseline", "exact": 0.0, "tolerance": 1e-12}
    assert judge_part(measured_panel(x=[4e-16]), **part).verdict == "holds"
    assert judge_part(measured_panel(x=[4e-16, -9e-13]), **part).verdict == "holds"
    assert judge_part(measured_panel(x=[2e-12, -2e-12]), **part).verdict == "fails"  # though their mean is exact
    nothing = judge_part(measured_panel(x=[1.0]), kind="agrees", key="x", arm="baseline")
    assert (nothing.verdict, nothing.obstacle) == ("undecided", "x has no exact value, or no standard error")


@pytest.mark.parametrize(
    ("values", "part", "verdict"),
    [
        # Half-width 12.706 * 0.0707 / sqrt(2) = 0.635 around a mean of 91.05.
        ([91.0, 91.1], {"direction": ">", "value": 90.0}, "holds"),
        ([91.0, 91.1], {"direction": "<", "value": 90.0}, "fails"),
        ([91.0, 91.1], {"direction": ">", "value": 90.5}, "undecided"),
        ([91.0], {"direction": ">", "value": 90.0}, "too few seeds"),
        ([91.0], {"direction": ">", "value": 90.0, "each": True}, "holds"),
        ([91.0, 95.0], {"direction": ">", "value": 91.0, "each": True}, "fails"),
        ([91.0, 95.0], {"direction": "<", "value": 95.5, "each": True}, "holds"),
    ],
)
def test_a_bound_is_of_the_mean_by_its_interval_or_of_each_seed(
    values: list[float], part: dict[str, Any], verdict: str
):
    panel = panel_of({"baseline": values})
    assert judge_part(panel, least=2, kind="bound", key="accuracy", arm="baseline", **part).verdict == verdict


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        # Slopes -1 and -0.9: mean -0.95, half-width 0.635.
        ({"slope": -1.0, "tolerance": 0.7}, "holds"),
        ({"slope": -1.0, "tolerance": 0.5}, "undecided"),
        ({"slope": 0.0, "tolerance": 0.3}, "fails"),
        ({"slope": -1.0, "tolerance": 0.11, "each": True}, "holds"),
        ({"slope": -1.0, "tolerance": 0.09, "each": True}, "fails"),
    ],
)
def test_a_slope_of_logarithms_by_hand(part: dict[str, Any], verdict: str):
    """Three values of x, equally far apart: (log y3 - log y1) / (2 log 2), whatever y2 is; 2 = 8 / 4^1, 8 / 4^0.9."""
    last = {0: 2.0, 1: 8 / 4**0.9}
    nll = {"groups=1": {0: 8.0, 1: 8.0}, "groups=2": {0: 5.0, 1: 3.0}, "baseline": last}
    records = {arm: {seed: node_record(90.0, nll=value) for seed, value in of.items()} for arm, of in nll.items()}
    outcome = judge_part(make_panel(records), least=2, kind="slope", key="nll", x="groups", **part)
    assert outcome.verdict == verdict
    assert [effect + part["slope"] for effect in outcome.effects.values()] == pytest.approx([-1.0, -0.9])
    alone = make_panel({arm: {0: of[0]} for arm, of in records.items()}, seeds=[0])
    single = judge_part(alone, least=2, kind="slope", key="nll", x="groups", **part)
    assert single.verdict == ("holds" if "each" in part else "too few seeds")


def test_a_slope_says_that_it_leaves_out_0():
    nll = {"baseline": 9.0, "dropout=0.1": 8.0, "dropout=0.4": 2.0}  # (log 2 - log 8) / (log 0.4 - log 0.1) = -1
    panel = make_panel({arm: {0: node_record(90.0, nll=value)} for arm, value in nll.items()}, seeds=[0])
    part = {"kind": "slope", "key": "nll", "x": "dropout", "slope": -1.0, "tolerance": 1e-9, "each": True}
    outcome = judge_part(panel, **part)
    assert (outcome.verdict, list(outcome.effects.values())) == ("holds", [0.0])
    assert outcome.contrast.text == (
        "log nll: slope against log dropout = -1 ± 1e-09, each seed, without dropout up to 0"
    )


def test_what_has_no_logarithm_has_no_slope():
    records = {f"groups={n}": {0: node_record(90.0, change=float(n - 1))} for n in (1, 2)}
    outcome = judge_part(make_panel(records), kind="slope", key="change", x="groups", slope=1.0, tolerance=0.1)
    assert outcome.obstacle == "change is not above 0, so that it has no logarithm"


def test_a_claim_about_an_exact_number_is_shown_with_what_is_allowed(project: Project):
    panel = measured_panel(lost=[4e-16], lost_exact=[0.0], kept=[0.1])
    page = judge_claims(project, [{"theory": panel}])[0]
    assert page.judged["t1"].verdict == page.judged["t2"].verdict == "holds"
    assert row(page, project, "lost: `baseline`")[1:] == [
        "lost: `baseline` = 0 within 1e-12, each seed", "holds", "+4.0e-16", "allowed: ±1e-12", "1",
    ]  # fmt: skip
    assert row(page, project, "kept: `baseline`")[2:] == ["holds", "+0.0990", "each seed", "1"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("exact: 0.0, tolerance: 1.0e-12", "exact: 0.0", "0.tolerance: missing, and the record has no 'lost_stderr'"),
        ("key: lost, arm: baseline, exact: 0.0,", "key: kept, arm: baseline,", "exact: missing, and the record has no"),
        ("id: t2", "id: t1", "claims: id 't1' is given twice"),
        ("id: t2", "id: c1", "claims: id 'c1' is one of node's too"),
    ],
)
def test_a_claim_that_nothing_could_decide_is_refused(tmp_path: Path, old: str, new: str, says: str):
    path = copy_settings(tmp_path) / "specs/theory/claims.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SpecError, match=f"specs/theory/claims.yaml: .*{says}"):
        load_project(tmp_path)


def test_a_study_without_a_file_of_claims_has_none(tmp_path: Path):
    assert load_claims(tmp_path, "node", {}).claims == []
