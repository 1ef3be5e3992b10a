"""A Python that cannot run the project says so in one line, whatever it was asked for."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from problems import ROOT
from ruamel.yaml import YAML

import pipeline
from pipeline.run.process import find_maker

COMMANDS = [("stages.check",), ("stages.train_node", "digits", "baseline", "0"), ("pipeline", "check")]
PRETEND = """
import sys
{}
sys.argv = sys.argv[1:]
from runpy import run_module
run_module(sys.argv[0], alter_sys=True)
"""


def refuse(command: list[str], *says: str, **env: str) -> None:
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    for part in says:
        assert part in result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("pretended", "says"),
    [
        ("sys.platform = 'win32'", "win32 is not supported; supported are Linux, macOS and, on Windows, WSL 2"),
        ("sys.version_info = (3, 10, 1)", "CPython 3.11 or newer is needed, and .* is cpython 3.10: activate"),
        ("sys.implementation.name = 'pypy'", "CPython 3.11 or newer is needed"),
    ],
)
def test_another_system_or_python_is_refused(command: tuple[str, ...], pretended: str, says: str):
    refuse([sys.executable, "-c", PRETEND.format(pretended), *command], *says.split(" .* "))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_environment_that_is_not_activated_is_named(command: tuple[str, ...]):
    base = os.path.realpath(sys.executable)  # without site-packages: -S; the folder stays on the path: no -I
    refuse([base, "-S", "-m", *command], "has no package psutil: activate", "source .venv/bin/activate")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_assertions_are_needed(command: tuple[str, ...]):
    refuse([sys.executable, "-O", "-m", *command], "python -O", "torchdiffeq")
    refuse([sys.executable, "-m", *command], "PYTHONOPTIMIZE", PYTHONOPTIMIZE="1")


def test_this_python_is_fine():
    assert pipeline.find_fault() is None


def test_an_old_python_can_read_what_refuses_it():
    ast.parse((ROOT / "pipeline/__init__.py").read_text(), feature_version=(3, 7))


def test_nothing_is_imported_before_it():
    """A third party that is missing would end in a traceback."""
    for path in [*ROOT.glob("stages/*.py"), ROOT / "pipeline/__main__.py"]:
        tree = ast.parse(path.read_text())
        names = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
        names += [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
        tops = {name.split(".")[0] for name in names} - {"pipeline"}
        assert path.stem == "__main__" or tops <= sys.stdlib_module_names, path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("train_node digits baseline 0", "data/node/digits/train.safetensors: not there; `dvc repro fetch_node` makes"),
        ("evaluate_node digits baseline 0", "runs/node/digits/baseline/0/run.json: not there; `dvc repro train_node_"),
    ],
)
def test_a_stage_by_hand_without_its_data_names_the_stage_that_makes_them(command: str, says: str, tmp_path: Path):
    words = ["-m", f"stages.{command.split()[0]}", *command.split()[1:]]
    result = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {says}")


def test_the_stages_that_make_outputs_are_in_dvc_yaml():
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    for folder in ("data", "runs", "samples", "extractors", "references", "evaluations", "records"):
        assert find_maker(Path(folder, "ddpm", "digits", "baseline", "0")) in stages
    assert find_maker(Path("evaluations/theory/features/baseline/0.json")) in stages
    assert find_maker(Path("params.yaml")) is None
