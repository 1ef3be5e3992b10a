"""The shape of the project: layers, dependencies of the stages, empty packages."""

from pathlib import Path

import pytest
from problems import ROOT
from ruamel.yaml import YAML

from pipeline.run import closures

# A file imports from its own room or from a lower layer; rooms of one layer never import each other.
LAYERS = [
    {"schema"},
    {"inputs", "cpu"},
    {"closures", "machine"},
    {"process"},
    {"data", "ode", "diffusion", "metrics", "report"},
    {"networks"},
    {"training"},
    {"plan"},
    {"stages", "__main__"},
]
FILES = sorted(path.relative_to(ROOT) for room in ("pipeline", "stages") for path in (ROOT / room).rglob("*.py"))
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


KNOWN: dict[Path, set[Path]] = {}


def direct_imports(path: Path) -> set[Path]:
    return closures.list_imports(ROOT, path)


def close_imports(path: Path) -> set[Path]:
    return closures.close_imports(ROOT, path, KNOWN)


def room(path: Path) -> str:
    if path.parts[0] == "stages":
        return "stages"
    return path.parts[1].removesuffix(".py")


def layer(path: Path) -> int:
    return next(index for index, rooms in enumerate(LAYERS) if room(path) in rooms)


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py"], ids=str)
def test_a_file_imports_only_its_room_and_lower_layers(path: Path):
    for imported in direct_imports(path):
        assert room(imported) == room(path) or layer(imported) < layer(path), f"{path} imports {imported}"
        assert path not in close_imports(imported), f"{path} and {imported} import each other"


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
    assert code == (["pipeline", "stages"] if name == "check" else [f"closures/{entry(stage)}.txt"])


def test_every_script_has_a_stage_and_a_closure():
    scripts = {path.stem for path in FILES if room(path) == "stages" and path.name != "__init__.py"}
    assert {entry(stage.get("do", stage)) for stage in STAGES.values()} == scripts
    assert set(closures.describe_closures(ROOT)) == scripts - {"check"}


def test_an_edit_of_mirrors_makes_no_stage_stale():
    for name, stage in STAGES.items():
        for params in stage.get("do", stage).get("params", []):
            keys = params.get("specs/data.yaml", []) if isinstance(params, dict) else []
            assert all(key.startswith("datasets") for key in keys), name


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


def test_trainings_know_nothing_of_evaluation_and_report():
    for stage in ("train_node", "train_ddpm", "extractor"):
        rooms = {room(path) for path in close_imports(Path(f"stages/{stage}.py"))}
        assert not rooms & {"metrics", "report"}
        assert Path("pipeline/schema/panel.py") not in close_imports(Path(f"stages/{stage}.py"))
    for stage in ("render", "draw", "claims", "render_awareness", "report", "strict"):
        rooms = {room(path) for path in close_imports(Path(f"stages/{stage}.py"))}
        assert not rooms & {"networks", "training", "metrics", "data"}


@pytest.mark.parametrize(
    "stage", ["fetch", "evaluate_node", "render", "draw", "claims", "render_awareness", "report", "strict"]
)
def test_stages_that_need_no_torch_import_none(stage: str):
    for path in close_imports(Path(f"stages/{stage}.py")):
        lines = (ROOT / path).read_text().splitlines()
        assert not [line for line in lines if line.startswith(("import torch", "from torch"))], path


def test_third_parties_are_named_in_one_room_each():
    homes = {
        "pooch": "data/download.py",
        "torchdiffeq": "ode/solve.py",
        "torch_fidelity": "metrics/generative.py",
        "scipy": "report/statistics.py",
        "vl_convert": "report/figures.py",
    }
    for package, home in homes.items():
        users = [
            path for path in FILES if f"import {package}" in (t := (ROOT / path).read_text()) or f"from {package}" in t
        ]
        assert users == [Path("pipeline") / home]


def test_the_lock_is_pinned_with_hashes_and_names_no_index():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert all("==" in line and line.endswith("\\") for line in packages)
    assert not [line for line in lines if "://" in line or "index" in line.split("==")[0]]
    names = {line.split("==")[0] for line in packages}
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
