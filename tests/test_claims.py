"""Claims from records made by hand: what holds, what fails, what is undecided, and what the page says of it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
from panels import cells, ddpm_record, failure, make_panel, node_record

from pipeline.report.claims import Judged, Page, decide, judge_claim, judge_claims
from pipeline.report.panel import Panel
from pipeline.report.sweeps import default_std, find_points
from pipeline.report.verdicts import render_claims, render_verdicts
from pipeline.schema.claim import Claim
from pipeline.schema.project import Project


def panel_of(accuracy: dict[str, Sequence[float]], dataset: str = "digits", **fields: Any) -> Panel:
    """Arm to accuracies of seeds 0, 1, ..."""
    records = {arm: {seed: node_record(v) for seed, v in enumerate(values)} for arm, values in accuracy.items()}
    return make_panel(records, dataset, seeds=range(max(map(len, accuracy.values()))), **fields)


def judge(project: Project, name: str, panel: Panel) -> Judged:
    """One claim of specs/claims.yaml."""
    return judge_claims(project, panel.dataset, {"node": panel}).judged[name]


def effects(judged: Judged) -> list[list[float]]:
    return [list(outcome.effects.values()) for outcome in judged.outcomes]


def row(page: Page, project: Project, text: str) -> list[str]:
    """The cells of the comparison that contains a text."""
    line = next(line for line in render_claims(project.claims, [page]).splitlines() if text in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("effects", "side", "verdict"),
    [
        # Half-width: 12.71 std / sqrt(2) for two seeds, 4.30 std / sqrt(3) for three.
        ([-1.0, -1.1], "<", "holds"), ([-1.0, -1.1], ">", "fails"), ([1.0, 1.1], ">", "holds"),
        ([-1.0, 1.0], "<", "undecided"), ([-1.0, -3.0, -2.0], "<", "undecided"), ([-3.0, -5.0, -4.0], "<", "holds"),
        ([-9.0], "<", "undecided"), ([], "<", "undecided"),
        ([-1.0, -1.0], "<", "holds"), ([1.0, 1.0], "<", "fails"), ([0.0, 0.0], "<", "fails"),
        ([0.0, 0.0], ">", "fails"), ([0.0, 0.0], "=", "holds"), ([0.04, -0.04], "=", "holds"),
        ([6.0, 6.0], "=", "fails"), ([6.0, 6.1], "=", "fails"), ([0.0, 6.0], "=", "undecided"),
        ([0.0], "=", "undecided"),
    ],
)  # fmt: skip
def test_a_verdict_is_where_the_interval_lies(effects: list[float], side: Any, verdict: str):
    assert decide(dict(enumerate(effects)), side, digits=1) == verdict


def test_an_effect_is_paired_by_seed(project: Project):
    panel = panel_of({"baseline": [90.0, 95.0, 92.0], "norm=batch": [89.0, 94.1, 90.9]})
    judged = judge(project, "c1", panel)
    assert effects(judged) == [[-1.0, -0.9, -1.1]]
    assert judged.verdict == "holds"
    page = judge_claims(project, "digits", {"node": panel})
    assert row(page, project, "accuracy: `norm=batch` < `baseline`")[2:] == [
        "holds", "-1.00", "-1.25 to -0.75", "3",
    ]  # fmt: skip


def test_what_is_undecided_says_how_many_seeds_would_decide(project: Project):
    # Mean -1, standard deviation 1: 7 seeds, by a table of t.
    panel = panel_of({"baseline": [90.0, 90.0, 90.0], "norm=batch": [88.0, 89.0, 90.0]})
    page = judge_claims(project, "digits", {"node": panel})
    assert page.judged["c1"].verdict == "undecided"
    assert row(page, project, "accuracy: `norm=batch`")[2] == "undecided; n = 7 would decide"
    level = panel_of({"baseline": [90.0, 90.0], "norm=batch": [89.0, 91.0]})
    assert "no n up to 10000" in row(judge_claims(project, "digits", {"node": level}), project, "`norm=batch`")[2]


def test_one_seed_decides_nothing_and_equal_seeds_are_marked(project: Project):
    one = judge_claims(project, "digits", {"node": panel_of({"baseline": [90.0], "norm=batch": [80.0]})})
    assert row(one, project, "accuracy: `norm=batch`")[2:] == ["undecided: n < 2", "-10.00", "—", "1"]
    # Differences that are equal but for the rounding of floating-point numbers.
    equal = panel_of({"baseline": [90.3, 10.7], "norm=batch": [90.1, 10.5]})
    page = judge_claims(project, "digits", {"node": equal})
    assert row(page, project, "accuracy: `norm=batch`")[2] == "holds (no spread seen)"


def test_missing_and_failed_arms_are_named(project: Project):
    records = {"baseline": {0: node_record(90.0), 1: node_record(91.0)}, "norm=batch": {0: failure(), 1: failure()}}
    page = judge_claims(project, "digits", {"node": make_panel(records)})
    assert row(page, project, "accuracy: `norm=batch`")[2] == "undecided: no completed run of `norm=batch`"
    assert row(page, project, "accuracy: `position=linear`")[2] == "undecided: not in params.yaml: `position=linear`"
    text = render_claims(project.claims, [page])
    assert (
        "- node: failed: `norm=batch`, seed 1, after 30 steps, in epoch 2: the solver took more than 1000 steps."
        in text
    )
    records["norm=batch"] = {0: node_record(80.0)}
    page = judge_claims(project, "digits", {"node": make_panel(records)})
    assert row(page, project, "accuracy: `norm=batch`")[2:] == ["undecided: n < 2", "-10.00", "—", "1"]
    assert "- node: missing: `norm=batch`, seed 1." in render_claims(project.claims, [page])


def test_a_claim_fails_with_one_comparison_and_holds_with_all(project: Project):
    gains = {"baseline": [90.0, 90.0], "position=linear": [91.0, 91.1]}
    assert judge(project, "c3", panel_of(gains)).verdict == "holds"
    more = {
        "baseline": {seed: node_record(90.0) for seed in range(2)},
        "position=linear": {seed: node_record(91.0 + seed / 10, nfe=32.0) for seed in range(2)},
    }
    assert judge(project, "c3", make_panel(more)).verdict == "fails"


def test_an_equality_with_a_number_is_to_the_decimals_that_the_paper_prints(project: Project):
    def records(sigmoid: float, relu: float) -> Panel:
        arms = {"activation=sigmoid": sigmoid, "baseline": relu}
        return make_panel({arm: {seed: node_record(90.0, nfe) for seed in range(2)} for arm, nfe in arms.items()})

    assert judge(project, "c6", records(14.04, 26.0)).verdict == "holds"
    assert judge(project, "c6", records(14.0, 20.0)).verdict == "fails"


def test_the_papers_effect_comes_from_its_table_and_stands_on_its_datasets_only(project: Project):
    accuracy = {"baseline": [90.0, 91.0], "norm=batch": [89.0, 90.5]}
    cifar = judge_claims(project, "cifar10", {"node": panel_of(accuracy, "cifar10", scale="paper")})
    assert row(cifar, project, "accuracy: `norm=batch`")[-1] == "-0.65"
    assert row(cifar, project, "nfe: `activation=sigmoid` = 14.0")[-1] == "+0.0"
    text = render_claims(project.claims, [cifar])
    assert "the paper's spread is unknown" in text
    assert "not the paper's scale" not in text
    digits = render_claims(project.claims, [judge_claims(project, "digits", {"node": panel_of(accuracy)})])
    assert "paper: effect" not in digits
    assert digits.count("not the paper's scale") == 3  # a column's head, and a note in each part


def test_a_claim_is_judged_where_its_study_runs(project: Project):
    panel = make_panel({"baseline": {0: ddpm_record(3.0)}, "position=mlp": {0: ddpm_record(2.0)}})
    page = judge_claims(project, "digits", {"ddpm": panel})
    assert list(page.judged) == ["c5"]
    assert cells(render_verdicts(project.claims, [page]), "c1")[-1] == "—"
    assert row(page, project, "fid: `position=mlp` < `baseline`")[2:4] == ["undecided: n < 2", "-1.000"]


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
    return judge_claims(project, "digits", {"ddpm": panel})


@pytest.mark.parametrize(
    ("change", "says", "effect", "interval"),
    [
        # Mean and standard deviation by hand; half-width 4.302653 std / sqrt(3): 0.248 for 0.1, 2.484 for 1.
        ([-1.0, -1.1, -0.9], "holds for these models (3 sample sets of one seed)", "-1.000", "-1.248 to -0.752"),
        ([1.0, 1.1, 0.9], "fails for these models (3 sample sets of one seed)", "+1.000", "+0.752 to +1.248"),
        ([-1.0, -2.0, 0.0], "undecided for these models; n = 7 sets would decide", "-1.000", "-3.484 to +1.484"),
        ([-1.0, -1.0, -1.0], "holds for these models (3 sample sets of one seed, no spread seen)", "-1.000",
         "-1.000 to -1.000"),
    ],
)  # fmt: skip
def test_one_seed_is_judged_over_its_sample_sets_paired_by_set(
    project: Project, change: list[float], says: str, effect: str, interval: str
):
    page = judge_sets(project, FIDS, shift(change))
    assert row(page, project, "fid: `position=mlp` < `baseline`")[2:] == [says, effect, interval, "3 sets"]


def test_a_claim_over_sets_is_marked_as_one_of_one_seed(project: Project):
    falling = [shift([-k, -k - 0.1 * (k > 0), -k]) for k in range(4)]
    holds = judge_sets(project, *falling)
    assert cells(render_verdicts(project.claims, [holds]), "c5")[-1] == "holds (one seed)"
    assert "- one seed: over sample sets of one trained model an arm" in render_verdicts(project.claims, [holds])
    fails = judge_sets(project, falling[0], falling[3], falling[2], falling[1])
    assert cells(render_verdicts(project.claims, [fails]), "c5")[-1] == "fails (one seed)"
    undecided = judge_sets(project, *falling[:3], shift([-9.0, -3.0, 6.0]))
    assert cells(render_verdicts(project.claims, [undecided]), "c5")[-1] == "undecided"
    assert "- one seed:" not in render_verdicts(project.claims, [undecided])


def test_a_claim_that_fails_over_seeds_does_not_rest_on_one(project: Project):
    def page(first: float, second: float) -> Page:
        """The first comparison has two seeds, the others share one."""
        fids = dict(zip(STEPS, (5.0, first, second, 2.0), strict=True))
        records = {
            arm: {0: ddpm_record(fid, fid + 0.1)} | ({1: ddpm_record(fid + 0.1)} if arm in STEPS[:2] else {})
            for arm, fid in fids.items()
        }
        return judge_claims(project, "digits", {"ddpm": make_panel(records)})

    assert [outcome.unit for outcome in page(4.0, 3.0).judged["c5"].outcomes[:3]] == ["seeds", "sets", "sets"]
    assert cells(render_verdicts(project.claims, [page(4.0, 3.0)]), "c5")[-1] == "holds (one seed)"
    for fails in (page(6.0, 3.0), page(6.0, 7.0)):
        assert cells(render_verdicts(project.claims, [fails]), "c5")[-1] == "fails"


def test_two_seeds_ignore_the_sets(project: Project):
    # The sets differ by 1 and -3, the seeds by -1.0 and -1.1: half-width 12.7062 * 0.0707107 / sqrt(2) = 0.635.
    records = {
        "baseline": {seed: ddpm_record(3.0, 7.0) for seed in range(2)},
        "position=mlp": {0: ddpm_record(4.0, 4.0), 1: ddpm_record(3.9, 3.9)},
    }
    page = judge_claims(project, "digits", {"ddpm": make_panel(records)})
    assert row(page, project, "fid: `position=mlp` < `baseline`")[2:] == [
        "holds", "-1.050", "-1.685 to -0.415", "2",
    ]  # fmt: skip


def test_sets_that_cannot_be_paired_decide_nothing(project: Project):
    unequal = judge_sets(project, FIDS, [4.0, 4.2])
    assert row(unequal, project, "fid: `position=mlp` < `baseline`")[2:] == [
        "undecided: 2 and 3 sample sets cannot be paired", "-1.000", "—", "1",
    ]  # fmt: skip
    single = judge_sets(project, FIDS[:1], [4.0])
    assert row(single, project, "fid: `position=mlp` < `baseline`")[2:] == ["undecided: n < 2", "-1.000", "—", "1"]


def test_a_key_that_no_set_has_is_judged_over_seeds(project: Project):
    claim = {"id": "c0", "statement": "-", "source": "-", "study": "ddpm"}
    part = {"kind": "effect", "key": "fid_best", "arm": "position=mlp", "direction": "<", "reference": "baseline"}
    panel = make_panel({"baseline": {0: ddpm_record(*FIDS)}, "position=mlp": {0: ddpm_record(1.0, 1.1, 1.2)}})
    judged = judge_claim(Claim.model_validate({**claim, "comparisons": [part]}), panel, lambda x, series: [], None)
    assert [(outcome.unit, outcome.verdict) for outcome in judged.outcomes] == [("seeds", "undecided")]
    assert effects(judged) == [[-4.0]]


def test_arms_of_different_protocols_are_not_compared(project: Project):
    def page(**protocol: Any) -> Page:
        records = {
            "baseline": {0: ddpm_record(*FIDS)}, "position=mlp": {0: ddpm_record(1.0, 1.1, 1.2, protocol=protocol)},
        }  # fmt: skip
        return judge_claims(project, "digits", {"ddpm": make_panel(records, seeds=[0])})

    assert row(page(images=50, clip=True), project, "fid: `position=mlp` <")[2:] == [
        "undecided: the protocols differ in images, clip", "—", "—", "0",
    ]  # fmt: skip
    imported = page(weights="theirs", versions={"torch": "2.0"})
    assert imported.judged["c5"].outcomes[0].verdict == "holds"


def chance(page: Page, project: Project) -> list[str]:
    return [line for line in render_claims(project.claims, [page]).splitlines() if line.startswith("- Chance")]


def test_a_replicate_says_how_far_chance_alone_goes(project: Project):
    page = judge_sets(project, FIDS, [1.0] * 3, replicate_1=shift([-0.5, -0.6, -0.4]), replicate_2=[6.0, 6.2])
    assert chance(page, project) == [
        "- Chance of training (the same network, other random numbers): `replicate=1` and `baseline` differ by 0.500 "
        "in fid (0.252 to 0.748 over 3 sets of one seed), 0.050 in inception_score (0.025 to 0.075 over 3 sets of one "
        "seed); `replicate=2` and `baseline` differ by 1.000 in fid (no interval: n < 2), 0.100 in inception_score (no "
        "interval: n < 2). An effect no larger than this cannot be told from the chance of training."
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
    (line,) = chance(judge_claims(project, "digits", {"ddpm": make_panel(records)}), project)
    assert f"`{replicate}` and `position=mlp` differ by 1.050 in fid (0.415 to 1.685 over 2 seeds)" in line
    assert "`replicate=1` and `baseline` differ by an unknown amount (no completed run of `baseline`); " in line
    assert "`groups=1` differ by an unknown amount (not in params.yaml: `groups=1`). An effect" in line


# ---- Claims about sweeps -------------------------------------------------------------------------------------------


def test_a_sweep_is_the_arms_that_override_its_fields_only(project: Project):
    arms = ["baseline", "groups=1", "groups=4,channels=16", "channels=16", "norm=batch", "position=linear,groups=1"]
    points = find_points(project, "digits", arms, "groups", "channels")
    assert [(point.arm, point.series, point.x) for point in points] == [
        ("groups=4,channels=16", 16, 4), ("channels=16", 16, 16), ("groups=1", 32, 1), ("baseline", 32, 16),
    ]  # fmt: skip
    assert [point.arm for point in find_points(project, "digits", arms, "groups", None)] == ["groups=1", "baseline"]


def test_the_baselines_scale_is_pytorchs_default(project: Project):
    """Uniform within 1 / sqrt(fan-in), against the weights of a convolution."""
    import torch

    (point,) = find_points(project, "cifar10", ["baseline", "norm=batch"], "weight_std", None)
    assert point.default
    assert point.x == pytest.approx(1 / math.sqrt(27 * 257))
    torch.manual_seed(0)
    assert torch.nn.Conv2d(257, 256, 3).weight.std().item() == pytest.approx(point.x, rel=0.01)
    assert default_std(point.network.model_copy(update={"time": "mlp"})) == pytest.approx(1 / math.sqrt(27 * 256))


# Accuracy falls by 1 for each doubling of the groups, and by 3 more at G = C.
FALLING = {"groups=4": 96.0, "groups=8": 95.0, "baseline": 94.0, "groups=32": 90.0}


def swept(**changed: float) -> Panel:
    """The digits' sweep over groups at C = 32, two seeds: the second is 0.1 above the first, at G = 1 0.2."""
    accuracy = {"groups=1": 98.0, **FALLING, **changed}
    return panel_of({arm: [value, value + (0.2 if arm == "groups=1" else 0.1)] for arm, value in accuracy.items()})


def test_a_falling_sweep_holds_in_every_part(project: Project):
    judged = judge(project, "c8", swept())
    assert judged.verdict == "holds"
    trend, mean, nearest, best_mean, best = judged.outcomes
    # Least squares by hand: x = 0, 2, 3, 4, 5 has mean 2.8 and sum of squares 14.8.
    slope = (-2.8 * 98 - 0.8 * 96 + 0.2 * 95 + 1.2 * 94 + 2.2 * 90) / 14.8
    assert list(trend.effects.values()) == pytest.approx([slope, slope - 2.8 * 0.1 / 14.8])
    assert list(mean.effects.values()) == pytest.approx([90 - 95.75, 90 - 95.75 - 0.025])
    assert (nearest.contrast.text, list(nearest.effects.values())) == (
        "accuracy: groups 32 < 16, next by mean, channels 32", [-4.0, -4.0],
    )  # fmt: skip
    assert list(best_mean.effects.values()) == pytest.approx([98 - 93.75, 98 - 93.75 + 0.1])
    assert list(best.effects.values()) == pytest.approx([2.0, 2.1])


def test_one_that_is_lower_than_the_mean_but_not_lowest_fails(project: Project):
    judged = judge(project, "c8", swept(**{"groups=8": 80.0}))
    assert [outcome.verdict for outcome in judged.outcomes[1:3]] == ["holds", "fails"]
    assert judged.verdict == "fails"


def test_a_sweep_without_its_end_is_undecided_and_says_so(project: Project):
    panel = panel_of({"groups=1": [98.0, 98.1], "baseline": [94.0, 94.0]})
    page = judge_claims(project, "digits", {"node": panel})
    assert page.judged["c8"].verdict == "undecided"
    assert row(page, project, "lowest at groups = channels")[2] == (
        "undecided: params.yaml has no arm with groups = channels"
    )
    none = judge_claims(project, "digits", {"node": panel_of({"baseline": [94.0, 94.0]})})
    assert row(none, project, "trend along groups")[2] == "undecided: params.yaml has no arms that vary groups"


def test_most_widths_suffice_for_the_highest(project: Project):
    claim = next(claim for claim in project.claims if claim.id == "c8")
    highest = Claim.model_validate({**claim.model_dump(), "comparisons": [claim.comparisons[-1].model_dump()]})

    def verdict(*best: float) -> str:
        widths = dict(zip((8, 16, 64), best, strict=False))
        arms = {f"groups=1,channels={c}": [value, value + 0.1] for c, value in widths.items()}
        arms |= {f"groups=2,channels={c}": [90.0, 90.0] for c in widths}
        panel = panel_of(arms)

        def sweep(x: Any, series: Any) -> Any:
            return find_points(project, "digits", panel.arms, x, series)

        return judge_claim(highest, panel, sweep, None).verdict

    assert verdict(95.0, 95.0, 85.0) == "holds"
    assert verdict(95.0, 85.0, 85.0) == "fails"
    assert verdict(95.0, 89.95, 85.0) == "undecided"
    assert verdict(95.0, 85.0) == "fails"


def test_the_page_counts_the_cells_in_which_one_group_is_best(project: Project):
    text = render_verdicts(project.claims, [judge_claims(project, "digits", {"node": swept()})])
    assert "accuracy is highest at groups = 1 in 1 of 1 combinations of dataset and channels" in text


def test_wide_weights_are_compared_with_narrow_ones_and_the_default_is_narrow(project: Project):
    accuracy = {"baseline": [96.0, 96.2], "weight_std=1.0": [94.0, 94.2], "weight_std=10.0": [10.0, 10.0]}
    accuracy |= {"weight_std=100.0": [10.0, 10.0], "weight_std=1000.0": [80.0, 80.1], "norm=batch": [1.0, 1.0]}
    judged = judge(project, "c9", panel_of(accuracy))
    assert effects(judged) == [pytest.approx([80 - 95, 80.1 - 95.2])]
    assert judged.verdict == "holds"
    assert dict(judged.outcomes[0].contrast.weights) == {
        "weight_std=1000.0": 1.0, "baseline": -0.5, "weight_std=1.0": -0.5,
    }  # fmt: skip
    narrow = panel_of({"baseline": [96.0, 96.0], "weight_std=1.0": [94.0, 94.0]})
    page = judge_claims(project, "digits", {"node": narrow})
    assert "params.yaml has no arm with weight_std above 100" in row(page, project, "weight_std")[2]


def test_no_dataset_no_verdict_and_no_error(project: Project):
    empty = dataclasses.replace(project, claims=project.claims[:1])
    assert "| c1" in render_claims(empty.claims, [])
