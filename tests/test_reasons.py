"""Why a stage must run is said in the words of params.yaml and by the files of its code."""

from pipeline.plan.reasons import explain_change

CLOSURE = "runner 1\naaa  pipeline/a.py\nbbb  pipeline/b.py\n"


def test_a_setting_is_named_with_both_values():
    old = '{"run": {"arm": "baseline", "training": {"steps": 5}}}'
    new = '{"run": {"arm": "baseline", "training": {"steps": 6}, "network": {"rtol": 0.1}}}'
    said = explain_change("resolved/node/digits/baseline/0.json", old, new)
    assert said == "training.steps was 5, is 6, network.rtol was the default, is 0.1"


def test_files_of_the_code_are_named_whether_changed_new_or_gone():
    new = "runner 1\nccc  pipeline/a.py\nddd  pipeline/c.py\n"
    assert explain_change("closures/a.txt", CLOSURE, new) == "code: pipeline/a.py, pipeline/b.py, pipeline/c.py"
    assert (
        explain_change("closures/a.txt", CLOSURE, CLOSURE.replace("runner 1", "runner 2")) == "code: runner 1, runner 2"
    )


def test_what_is_not_known_is_not_made_up():
    assert explain_change("data/node/digits", None, None) == "data/node/digits changed"
    assert explain_change("specs/a.yaml", None, "text") == "specs/a.yaml is new"
    assert explain_change("specs/a.yaml", "old: 1", "new: 1") == "specs/a.yaml changed"


def test_many_differences_are_counted():
    old, new = ('{"run": {' + ", ".join(f'"k{index}": {value}' for index in range(5)) + "}}" for value in (1, 2))
    said = explain_change("resolved/a.json", old, new)
    assert said == "k0 was 1, is 2, k1 was 1, is 2, k2 was 1, is 2, and 2 more"
