"""resources.strict: the last stage fails where a run failed, and only if it is asked to."""

from pathlib import Path

import pytest
from panels import failure, make_record
from workspace import copy_settings

from pipeline.schema.project import load_project
from pipeline.schema.record import record_path, write_record
from stages.strict import main


def prepare(root: Path, strict: bool, failed: dict[str, list[str]]) -> None:
    """A panel with a record for every run."""
    params = (
        (copy_settings(root) / "params.yaml").read_text().replace("strict: false", f"strict: {str(strict).lower()}")
    )
    (root / "params.yaml").write_text(params)
    for run in load_project(root).runs():
        fails = run.seed == 0 and run.arm in failed.get(run.study, [])
        found = failure() if fails else make_record(run.study)
        write_record(record_path(root, run.study, run.case, run.arm, run.seed), found)


@pytest.mark.parametrize(
    ("strict", "failed"), [(False, {}), (True, {}), (False, {"node": ["baseline"], "ddpm": ["position=mlp"]})]
)
def test_without_a_failure_or_without_being_asked_it_passes(
    strict: bool, failed: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepare(tmp_path, strict, failed)
    monkeypatch.chdir(tmp_path)
    main()


def test_every_failed_run_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prepare(tmp_path, True, {"node": ["baseline", "activation=silu"], "ddpm": ["position=mlp"]})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="node digits: failed: `baseline`, seed 0, after 30 steps") as refused:
        main()
    assert "node digits: failed: `activation=silu`, seed 0" in str(refused.value)
    assert "ddpm digits: failed: `position=mlp`, seed 0" in str(refused.value)
    assert "seed 1" not in str(refused.value)
    assert "\n" not in str(refused.value)
