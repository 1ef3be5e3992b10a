"""A stage's code and settings, noted at its start: what changed meanwhile is refused, what does not matter is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from trainings import make_checkpoint
from workspace import ROOT, Workspace

from pipeline.run import inputs
from pipeline.run.closures import closure_path, write_closures
from pipeline.schema.base import SpecError
from pipeline.schema.resolved import check_resolved

SETTINGS, RESOLVED = "params.yaml", Path("resolved/node/digits/baseline/0.json")


def read_first(root: Path) -> str:
    """The one line of the settings that is read."""
    return (root / SETTINGS).read_text().splitlines()[0]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of a stage that imports one of two files, with settings of which one line is read."""
    files = {
        "stages/one.py": "import pipeline.used\n",
        "pipeline/used.py": "x = 1",
        "pipeline/unused.py": "x = 1",
        "pipeline/run/runner.py": "x = 1",
        SETTINGS: "mine: 1\nother: 1\n",
        "specs/node/tables/one.yaml": "a: 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    write_closures(tmp_path)
    (tmp_path / RESOLVED).parent.mkdir(parents=True)
    (tmp_path / RESOLVED).write_text("mine: 1")
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    yield tmp_path
    inputs.forget_inputs()


@pytest.fixture
def root(project: Path) -> Path:
    """That project, noted."""
    assert "pipeline/used.py" in inputs.require_closure("one")
    assert inputs.require_file(RESOLVED, lambda: read_first(project), check_resolved) == "mine: 1"
    assert inputs.read_inputs(lambda: read_first(project)) == "mine: 1"
    return project


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (SETTINGS, "mine: 1\nother: 2\n"),
        ("pipeline/unused.py", "x = 2"),
        ("pipeline/run/runner.py", "x = 2"),
        ("stages/one.py", "import pipeline.used\nx = 2\n"),
        ("pipeline/used.py", "x = 1"),  # touched, or changed and put back
        ("pipeline/used.py", "x = 1  # one"),
        ("specs/node/tables/new.yaml", "a: 1\n"),
        ("README.md", "x"),
    ],
)
def test_a_change_that_the_result_does_not_depend_on_is_none(root: Path, file: str, text: str):
    (root / file).write_text(text)
    inputs.check_inputs()


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        (SETTINGS, "mine: 2\nother: 1\n", rf"params\.yaml or specs/, of which {RESOLVED} is made"),
        ("pipeline/used.py", "x = 2", r"pipeline/used\.py"),
    ],
)
def test_a_change_of_what_made_the_result_is_refused_by_name(root: Path, file: str, text: str, says: str):
    (root / file).write_text(text)
    with pytest.raises(SpecError, match=rf"^{says}: changed while this ran"):
        inputs.check_inputs()


def test_settings_that_a_stage_reads_itself_are_looked_at_again(project: Path):
    inputs.read_inputs(lambda: read_first(project))
    (project / SETTINGS).write_text("mine: 2\n")
    with pytest.raises(SpecError, match=r"^params\.yaml or specs/: changed while this ran"):
        inputs.check_inputs()


def test_no_result_is_put_in_place_once_code_has_changed(root: Path, tmp_path: Path):
    with make_checkpoint(tmp_path / "work") as checkpoint:
        checkpoint.load()
        checkpoint.save({}, {})
        (root / "pipeline/used.py").write_text("x = 2")
        with pytest.raises(SpecError, match="changed while this ran"):
            checkpoint.finish(checkpoint.files, tmp_path / "out")
        assert checkpoint.load() is not None
    assert not (tmp_path / "out").exists()


def test_code_that_is_gone_is_changed(root: Path):
    (root / "pipeline/used.py").unlink()
    with pytest.raises(SpecError, match=r"pipeline/used\.py: changed"):
        inputs.check_inputs()


def test_what_changes_after_the_result_is_in_place_does_not_concern_it(root: Path, tmp_path: Path):
    with make_checkpoint(tmp_path / "work") as checkpoint:
        checkpoint.load()
        checkpoint.finish(checkpoint.files, tmp_path / "out")
    (root / "pipeline/used.py").write_text("x = 2")
    (root / SETTINGS).write_text("mine: 2\n")
    inputs.check_inputs()


# ---- What DVC will record --------------------------------------------------------------------------------------------


@pytest.fixture
def under_dvc(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_STAGE", "one")
    return project


def test_dvc_runs_the_code_and_settings_that_it_will_record(under_dvc: Path):
    assert inputs.require_closure("one") == (under_dvc / closure_path("one")).read_text()
    inputs.require_file(RESOLVED, lambda: "mine: 1", check_resolved)


def test_code_that_the_closure_does_not_speak_of_is_not_run_under_dvc(under_dvc: Path):
    (under_dvc / "pipeline/used.py").write_text("x = 2")
    with pytest.raises(
        SpecError, match=r"^pipeline/used\.py: changed since closures/one\.txt was written: nothing was"
    ):
        inputs.require_closure("one")
    with pytest.raises(SpecError, match=r"^closures/three\.txt: not there; `dvc repro check` writes it"):
        inputs.require_closure("three")


def test_settings_that_the_file_does_not_say_are_not_worked_with_under_dvc(under_dvc: Path):
    with pytest.raises(SpecError, match=rf"^{RESOLVED}: not what params\.yaml and specs/ say now: nothing was run"):
        inputs.require_file(RESOLVED, lambda: "mine: 2", check_resolved)
    (under_dvc / RESOLVED).unlink()
    with pytest.raises(SpecError, match=rf"^{RESOLVED}: not there; `dvc repro check` writes it"):
        inputs.require_file(RESOLVED, lambda: "mine: 1", check_resolved)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("fetch theory features", "theory features: no stage of it reads settings of the kind 'data'"),
        ("extractor node digits", "node digits: no stage of it reads settings of the kind 'extractor'"),
        ("fetch node nix", "no case 'nix' of node; there are digits, cifar10, cifar100"),
        ("record node nix", "no case 'nix' of node; there are digits, cifar10, cifar100"),
        ("record nix digits", "specs/nix/study.yaml: no study 'nix' in pipeline/studies/"),
    ],
)
def test_a_stage_by_hand_of_what_is_not_there_is_one_line(command: str, says: str):
    stage, *arguments = command.split(" ")
    result = Workspace(ROOT).run("python", "-m", f"stages.{stage}", *arguments, ok=False)
    assert (result.returncode, result.stderr) == (1, f"error: {says}\n")
