"""The shape of the project, as far as no linter can say it: dependencies of the stages, empty packages."""

import re
import tomllib
from pathlib import Path

import pytest
from problems import ROOT
from ruamel.yaml import YAML

from pipeline.run import closures

FILES = sorted(path.relative_to(ROOT) for room in ("pipeline", "stages") for path in (ROOT / room).rglob("*.py"))
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
ROOMS = {path.parts[1] for path in FILES if path.parts[0] == "pipeline" and len(path.parts) > 2}
KNOWN: dict[Path, set[Path]] = {}


def close_imports(path: Path) -> set[Path]:
    """What decides numbers of all that a file imports."""
    return closures.close_imports(ROOT, [path], KNOWN)


def room(path: Path) -> str:
    return "stages" if path.parts[0] == "stages" else path.parts[1].removesuffix(".py")


def test_every_room_has_a_layer():
    """pyproject.toml says what may import what; `lint-imports` ignores a room that has no layer there."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    layers = [name.removeprefix("pipeline.") for layer in contract["layers"] for name in layer.split(" | ")]
    assert sorted(layers) == sorted({*ROOMS, "stages", "__main__"})


def test_packages_re_export_nothing():
    for path in FILES:
        if path.name == "__init__.py" and path.parent.name != "pipeline":  # which looks at the Python that imports it
            assert (ROOT / path).read_text() == "", path


def entry(stage: dict) -> str:
    """The script that a stage runs."""
    words = stage["cmd"].split()
    assert words[:2] == ["python", "-m"] and words[2].startswith("stages.")
    return words[2].removeprefix("stages.")


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_depends_on_the_closure_of_its_own_script(name: str):
    stage = STAGES[name].get("do", STAGES[name])
    code = [dep for dep in stage["deps"] if dep.startswith("closures") or dep in ("pipeline", "stages")]
    assert code == (["pipeline", "stages"] if name == "check" else [f"closures/{name_closure(stage)}.txt"])


def name_closure(stage: dict) -> str:
    """A study that is measured in one step has a closure of its own."""
    return stage["cmd"].split()[3] if entry(stage) == "measure" else entry(stage)


def list_closures(stage: dict) -> set[str]:
    name = name_closure(stage)
    return set(stage["matrix"]["study"]) if name == "${item.study}" else {name}


def test_every_script_has_a_stage_and_a_closure():
    scripts = {path.stem for path in FILES if room(path) == "stages" and path.name != "__init__.py"}
    stages = [{**stage, **stage.get("do", {})} for stage in STAGES.values()]
    assert {entry(stage) for stage in stages} == scripts
    assert set(closures.describe_closures(ROOT)) == set().union(*map(list_closures, stages)) - {"check"}


@pytest.mark.parametrize("name", list(STAGES))
def test_a_training_depends_on_its_own_settings_and_no_others(name: str):
    """So that an edit of mirrors, of words or of another case makes nothing stale."""
    stage = STAGES[name].get("do", STAGES[name])
    if entry(stage) in ("fetch", "extractor", "reference", "train_node", "train_ddpm", "sample", "measure"):
        assert not stage.get("params")
        assert not [dep for dep in stage["deps"] if dep.startswith(("specs", "params.yaml"))]
        settings = [dep for dep in stage["deps"] if dep.startswith("resolved/")]
        assert settings
        assert all(re.fullmatch(r"resolved/.*\.json", dep) for dep in settings)


@pytest.mark.slow
def test_every_stage_comes_after_the_check():
    """So that a mistake anywhere in params.yaml or specs/ is refused before anything else runs."""
    from dvc.repo import Repo
    from networkx import descendants

    with Repo(str(ROOT)) as repo:
        graph = repo.index.graph  # an edge leads to what is needed
        (check,) = (stage for stage in graph if stage.name == "check")
        for stage in graph:
            assert stage is check or check in descendants(graph, stage), stage.name


def list_outs(stage: dict) -> list[dict]:
    """Properties of all outputs, empty for the plain ones."""
    outs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    return [properties for out in outs for properties in (out.values() if isinstance(out, dict) else [{}])]


@pytest.mark.parametrize("name", list(STAGES))
def test_what_git_keeps_survives_a_command_that_fails(name: str):
    """A stage with cached outputs beside it cannot have that: it would lose its run-cache."""
    outs = list_outs(STAGES[name].get("do", STAGES[name]))
    persistent = not any(out.get("cache", True) for out in outs)
    assert all(out.get("persist", False) == persistent for out in outs)


def test_the_report_imports_no_torch():
    """Nor does what it looks up by name; the linter follows no names."""
    views = [path for path in FILES if path.name.endswith("views.py")]
    assert views
    for start in [Path(f"stages/{stage}.py") for stage in ("render", "draw", "record", "report", "strict")] + views:
        for path in close_imports(start):
            lines = (ROOT / path).read_text().splitlines()
            assert not [line for line in lines if line.startswith(("import torch", "from torch"))], path


def test_third_parties_are_named_in_one_room_each():
    homes = {
        "pooch": "data/download.py",
        "torchdiffeq": "ode/solve.py",
        "torch_fidelity": "metrics/generative.py",
        "vl_convert": "report/vega.py",
    }
    for package, home in homes.items():
        users = [
            path for path in FILES if f"import {package}" in (t := (ROOT / path).read_text()) or f"from {package}" in t
        ]
        assert users == [Path("pipeline") / home]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-audit.lock"])
def test_a_lock_is_pinned_with_hashes_and_names_no_index(lock: str):
    lines = (ROOT / lock).read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert all("==" in line and line.endswith("\\") for line in packages)
    assert not [line for line in lines if "://" in line or "index" in line.split("==")[0]]


def test_what_is_needed_is_locked():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    names = {line.split("==")[0] for line in lines if "==" in line}
    assert names >= {
        "dvc",
        "torch",
        "torchdiffeq",
        "pydantic",
        "torchvision",
        "torch-fidelity",
        "docker",
        "ruamel-yaml-clib",
    }
