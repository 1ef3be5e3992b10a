"""A stage's code and settings, noted at its start: what changed meanwhile is refused, what does not matter is not."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from trainings import COMPUTE, make_checkpoint

from pipeline.run import inputs
from pipeline.run.checkpoint import fingerprint_work

SETTINGS = "params.yaml"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of two modules, one of which is loaded, with settings of which one key is read."""
    files = {"pipeline/used.py": "x = 1", "pipeline/unused.py": "x = 1", SETTINGS: "mine: 1\nother: 1\n"}
    for name, text in {**files, "specs/tables/one.yaml": "a: 1\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    module = ModuleType("pipeline.used")
    module.__file__ = str(tmp_path / "pipeline/used.py")
    monkeypatch.setitem(sys.modules, "pipeline.used", module)
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    inputs.note_inputs()
    assert inputs.read_inputs(lambda: (tmp_path / SETTINGS).read_text().splitlines()[0]) == "mine: 1"
    yield tmp_path
    inputs._noted.clear()
    inputs._read.clear()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (SETTINGS, "mine: 1\nother: 2\n"),
        ("pipeline/unused.py", "x = 2"),
        ("pipeline/used.py", "x = 1"),  # touched, or changed and put back
        ("specs/tables/new.yaml", "a: 1\n"),
        ("README.md", "x"),
    ],
)
def test_a_change_that_the_result_does_not_depend_on_is_none(root: Path, file: str, text: str):
    (root / file).write_text(text)
    inputs.check_inputs()


@pytest.mark.parametrize(("file", "text"), [(SETTINGS, "mine: 2\nother: 1\n"), ("pipeline/used.py", "x = 2")])
def test_a_change_of_what_made_the_result_is_refused_by_name(root: Path, file: str, text: str):
    (root / file).write_text(text)
    with pytest.raises(ValueError, match=rf"^{file}: changed while this ran") as refused:
        inputs.check_inputs()
    assert "\n" not in str(refused.value)


def test_a_checkpoint_is_not_begun_and_no_result_put_in_place_once_code_has_changed(root: Path, tmp_path: Path):
    with make_checkpoint(tmp_path / "work") as checkpoint:
        checkpoint.load()
        checkpoint.save({}, {})
        (root / "pipeline/used.py").write_text("x = 2")
        with pytest.raises(ValueError, match="changed while this ran"):
            checkpoint.finish(checkpoint.files, tmp_path / "out")
        assert checkpoint.load() is not None
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="changed while this ran"):
        fingerprint_work(COMPUTE)


def test_code_that_is_gone_is_changed(root: Path):
    (root / "pipeline/used.py").unlink()
    with pytest.raises(ValueError, match=r"pipeline/used\.py: changed"):
        inputs.check_inputs()


def test_what_changes_after_the_result_is_in_place_does_not_concern_it(root: Path, tmp_path: Path):
    with make_checkpoint(tmp_path / "work") as checkpoint:
        checkpoint.load()
        checkpoint.finish(checkpoint.files, tmp_path / "out")
    (root / "pipeline/used.py").write_text("x = 2")
    inputs.check_inputs()
