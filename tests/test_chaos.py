"""Kills at random moments: a few, over the NODE study. `make chaos` is the long version, over everything."""

import random
from collections import Counter
from pathlib import Path

import pytest
from chaos import aim, find_kind, wreak
from workspace import check_out

pytestmark = pytest.mark.ci


@pytest.mark.parametrize("driver", [False, True], ids=["dvc repro", "pipeline run"])
def test_a_few_kills_change_no_output(tmp_path: Path, driver: bool):
    assert wreak(tmp_path, count=2, seed=0, targets=["render@table1"], driver=driver).total() == 2


def test_every_stage_has_a_kind_and_each_kind_its_share():
    names = check_out().run("dvc", "stage", "list", "--name-only").stdout.split()
    kills = aim(dict.fromkeys(names, 1.0), 48, random.Random(0))  # noqa: S311
    assert set(Counter(find_kind(kill.stage) for kill in kills).values()) == {8}
    assert [names.index(kill.stage) for kill in kills] == sorted(names.index(kill.stage) for kill in kills)
