"""The text `answer`: its sentences follow the records of the time test, each where its own runs are there."""

from collections.abc import Mapping, Sequence

import pytest
from panels import STUDIES, failure, fill_record, make_panel

from pipeline.report.panel import Panel
from pipeline.report.views import find_views, render_text
from pipeline.schema.project import Project

LOST = {"norm=batch,time=linear": [1.0, 1.01], "norm=batch,padding=circular": [1.02, 1.0]}
KEPT = {"baseline": [0.1, 0.2], "time=linear": [0.3, 0.3]}
RESTORED = {"time=linear,position=linear,groups=16": [0.2, 0.25]}
MEAN = {"time=linear,position=linear,groups=16,position_mean=true": [1.0, 1.03]}
BORDER = {"norm=batch": [0.3, 0.31]}
ALL = {**LOST, **KEPT, **RESTORED, **MEAN, **BORDER}


def make(values: Mapping[str, Sequence[float | None]], case: str = "there_and_back") -> Panel:
    """A panel of so many R of each arm; None is a run that failed."""
    model = STUDIES["timetest"].record
    records = {
        arm: {seed: failure() if r is None else fill_record(model, r=r) for seed, r in enumerate(of_arm)}
        for arm, of_arm in values.items()
    }
    return make_panel(records, case, "exact", study="timetest")


def say(project: Project, *panels: Panel) -> list[str]:
    """The text's three sentences."""
    title, empty, *said, last, note = render_text("answer", project, panels).splitlines()
    assert (title, empty, last) == ("## In short", "", "")
    assert note.startswith("R is a network's error in the time tests, divided by the least possible error")
    return said


def test_without_records_nothing_is_known(project: Project):
    for panels in ([], [make({"baseline": []})], [make({arm: [None, None] for arm in ALL})]):
        assert say(project, *panels) == [
            "Not known yet: the time test was not run.",
            "Whether a positional embedding brings it back was not measured.",
            "Whether t leaks through the border was not measured.",
        ]


def test_the_sentences_say_what_the_paper_says_where_the_records_do(project: Project):
    lost, restored, border = say(project, make(ALL))
    assert lost == (
        "**A network loses the time where each channel is normalised by itself**, unless the border or a position "
        "brings it back. All 4 such ODE functions and U-Nets that we trained are blind to it (R from 1.000 to 1.020; "
        "1 is blind, 0 knows the time). With group normalisation and ordinary initial weights they know it (R from "
        "0.100 to 0.300)."
    )
    assert restored.startswith("**A positional embedding brings the time back** (R from 0.200 to 0.250). ")
    assert restored.endswith("brings nothing back (R from 1.000 to 1.030).")
    assert border.startswith("**Zero padding can save the time by accident.** ")
    assert border.endswith("knows the time after all (R from 0.300 to 0.310).")


@pytest.mark.parametrize(
    ("changed", "index", "says"),
    [
        (
            {"norm=batch,time=linear": [0.8]},
            0,
            "**No**: networks that normalise each channel by itself have R from 0.8",
        ),
        ({"baseline": [0.9], "time=linear": [1.0]}, 0, "Yes, but not for the normalisation alone: R from 1.000 to 1.0"),
        (
            {arm: [0.7] for arm in RESTORED},
            1,
            "With a positional embedding it is R 0.700; with its mean over the pixels",
        ),
        (
            {arm: [0.4] for arm in MEAN},
            1,
            "With a positional embedding it is R from 0.200 to 0.250; with its mean over",
        ),
        ({arm: [0.9, 1.0] for arm in BORDER}, 2, "Zero padding does not save it: R from 0.900 to 1.000."),
    ],
)
def test_other_records_give_another_sentence_and_leave_the_others(
    project: Project, changed: dict[str, list[float | None]], index: int, says: str
):
    before, said = say(project, make(ALL)), say(project, make({**ALL, **changed}))
    assert said[index].startswith(says)
    assert [line for line in said if line not in before] == [said[index]]


@pytest.mark.parametrize(("without", "index"), [(LOST, 0), (KEPT, 0), (RESTORED, 1), (MEAN, 1), (BORDER, 2)])
def test_a_sentence_needs_its_own_runs_and_no_others(project: Project, without: dict[str, list[float]], index: int):
    said = say(project, make({arm: values for arm, values in ALL.items() if arm not in without}))
    assert [place for place, line in enumerate(said) if "not measured" in line or "not run" in line] == [index]


def test_controls_wide_weights_and_failed_runs_say_nothing(project: Project):
    """Without time there is none to lose; where it drowned in wide weights, no norm took it."""
    more = {"time=none": [0.01], "weight_std=10.0": [0.99], "norm=batch,weight_std=10.0": [0.99], "time=mlp": [None]}
    assert say(project, make({**ALL, **more})) == say(project, make(ALL))


def test_u_nets_count_among_the_networks_and_have_no_border(project: Project):
    arms = {
        "baseline": [0.05],
        "groups=8,groups_scope=sites": [1.001],
        "position=mlp,groups=8,groups_scope=sites": [0.15],
        "position=mlp,position_mean=true,groups=8,groups_scope=sites": [1.2],
        "groups_scope=sites,norm=instance": [1.0],
    }
    unets = make(arms, "white_noise")
    lost, restored, border = say(project, unets)
    assert "All 2 such ODE functions and U-Nets that we trained are blind to it (R from 1.000 to 1.001;" in lost
    assert "they know it (R 0.050)" in lost
    assert "brings the time back** (R 0.150)" in restored
    assert border == "Whether t leaks through the border was not measured."
    both = say(project, make(ALL), unets)
    assert "All 6 such ODE functions and U-Nets" in both[0]
    assert "(R from 0.050 to 0.300)" in both[0]
    assert both[2] == say(project, make(ALL))[2]


def test_the_protocol_says_the_steps(project: Project):
    records = [fill_record(STUDIES["timetest"].record, settings={"training.steps": steps}) for steps in (500, 500)]
    (line,) = find_views("timetest").describe(records, False)
    assert line.startswith("500 training steps; ")
