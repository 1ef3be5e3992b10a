"""Import closures: what they hold, and that a stage runs the code that they speak of or nothing."""

import ast
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from problems import ROOT

from pipeline.run import closures
from pipeline.run.closures import (
    RUNNER,
    close_imports,
    closure_path,
    decides_numbers,
    describe_closures,
    find_changed,
    strip_words,
    write_closures,
)
from pipeline.schema.base import SpecError
from pipeline.schema.study import find_study, list_studies

FILES = {
    "stages/__init__.py": "",
    "stages/check.py": "",
    "stages/measure.py": "from pipeline.run import process\n",
    "stages/one.py": "from pipeline.a import x\nfrom pipeline.run import process\n",
    "stages/two.py": "def f():\n    import pipeline.studies.toy.c\n",
    "pipeline/a.py": "import json\nfrom pipeline import b\nfrom pipeline.schema import fields\nx = 1\n",
    "pipeline/b.py": "",
    "pipeline/schema/fields.py": "from pipeline import far\n",
    "pipeline/run/process.py": "from pipeline import far\n",
    "pipeline/far.py": "",
    "pipeline/studies/toy/study.py": "from pipeline import far\n",
    "pipeline/studies/toy/c.py": "from pipeline.studies.toy.study import far\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    write_closures(tmp_path)
    return tmp_path


def names(root: Path, stage: str) -> list[str]:
    first, *lines = (root / closure_path(stage)).read_text().splitlines()
    assert first == f"runner {RUNNER}"
    return [line.split("  ")[1] for line in lines]


def changed(root: Path, stage: str) -> str | None:
    return find_changed(root, (root / closure_path(stage)).read_text())


def test_a_closure_has_what_is_imported_at_the_top_inside_functions_and_as_a_module(root: Path):
    assert names(root, "one") == ["pipeline/a.py", "pipeline/b.py"]
    assert names(root, "two") == ["pipeline/studies/toy/c.py"]
    assert sorted(path.name for path in (root / "closures").iterdir()) == ["one.txt", "two.txt"]


@pytest.mark.parametrize(
    "file",
    ["stages/one.py", "pipeline/schema/fields.py", "pipeline/run/process.py", "pipeline/studies/toy/study.py"],
)
def test_fields_runners_and_scripts_decide_no_numbers(root: Path, file: str):
    """And what they alone import: it is not reached through them."""
    before = describe_closures(root)
    (root / file).write_text("from pipeline.a import x\ny = 2\n")
    (root / "pipeline/far.py").write_text("y = 2\n")
    assert describe_closures(root) == before
    assert (changed(root, "one"), changed(root, "two")) == (None, None)


def test_a_runner_that_may_change_numbers_changes_every_closure(root: Path, monkeypatch: pytest.MonkeyPatch):
    before = describe_closures(root)
    monkeypatch.setattr(closures, "RUNNER", RUNNER + 1)
    after = describe_closures(root)
    assert all(before[stage] != after[stage] for stage in before)
    assert changed(root, "one") == "the runner's number"


def test_a_study_that_is_measured_in_one_step_has_a_closure_of_its_own(root: Path):
    """The project's `theory`: also what a function imports, and nothing of a study that it does not use."""
    found = {line.split("  ")[1] for line in describe_closures(ROOT)["theory"].splitlines()[1:]}
    assert "pipeline/studies/theory/measure.py" in found
    assert "pipeline/studies/node/network.py" in found
    assert not [name for name in found if name.startswith("pipeline/studies/ddpm")]
    assert not [name for name in found if not decides_numbers(Path(name))]


def test_words_do_not_count_and_code_does(root: Path):
    """What a line says to people: comments, docstrings of modules, classes, functions and fields, blank lines."""
    plain = (
        'import re\n\nLIMIT = 3\n\n\nclass A:\n    x: int = 1\n\n    def f(self) -> str:\n        return "ä # \\n"\n'
    )
    told = (
        '"""A module.\n\nOf two lines."""\n\n# Why.\nimport re  # noqa\n\nLIMIT = 3  # ä # most\n"""Of what."""\n\n\n'
        'class A:\n    """A class."""\n\n    x: int = 1\n    """A field."""\n\n    def f(self) -> str:\n'
        '        """Says."""\n\n        return "ä # \\n"  # at last\n'
    )
    (root / "pipeline/b.py").write_text(plain)
    write_closures(root)
    before = describe_closures(root)
    (root / "pipeline/b.py").write_text(told)
    assert describe_closures(root) == before
    assert changed(root, "one") is None
    for old, new in (
        ("LIMIT = 3", "LIMIT = 4"),
        ("ä # ", "ä #  "),
        ("        return", "        x = 1\n        return"),
    ):
        assert old in plain
        (root / "pipeline/b.py").write_text(told.replace(old, new))
        assert describe_closures(root)["one"] != before["one"], new


class _Wordless(ast.NodeTransformer):
    """Takes statements away that are nothing but a string, and those that stand where there is no other."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def visit_Pass(self, _: ast.Pass) -> None:
        return None


def read_code(source: str) -> str:
    """What Python reads, without words."""
    return ast.dump(_Wordless().visit(ast.parse(source)))


def fill_bodies(source: str) -> str:
    """Code in which a class of nothing but words has a body again, so that Python reads it."""
    filled, lines = [], source.splitlines()
    for line, after in pairwise([*lines, ""]):
        filled.append(line)
        indent = len(line) - len(line.lstrip())
        empty = not after or len(after) - len(after.lstrip()) <= indent
        if empty and line.endswith(":") and line.lstrip().startswith(("class ", "def ")):
            filled.append(f"{' ' * indent}    pass")
    return "\n".join(filled)


@pytest.mark.slow
def test_only_words_are_taken_from_the_code_of_this_project():
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        stripped = strip_words(source)
        assert read_code(fill_bodies(stripped)) == read_code(source), path
        assert "#" not in stripped or "#" in read_code(stripped), path


def test_a_change_is_one_of_the_closures_that_have_the_file(root: Path):
    before = describe_closures(root)
    (root / "pipeline/b.py").write_text("changed = 1\n")
    after = describe_closures(root)
    assert {stage for stage in before if before[stage] != after[stage]} == {"one"}
    assert (changed(root, "two"), changed(root, "one")) == (None, "pipeline/b.py")
    write_closures(root)
    assert changed(root, "one") is None
    (root / "pipeline/a.py").unlink()
    assert changed(root, "one") == "pipeline/a.py"


@pytest.mark.parametrize(
    ("text", "says"),
    [("def f(:\n", r"invalid syntax"), ("from . import b\n", r"line 1: a relative import"), ("x = '\0'", "null bytes")],
)
def test_code_that_cannot_be_read_is_named(root: Path, text: str, says: str):
    (root / "pipeline/a.py").write_text(text)
    with pytest.raises(SpecError, match=rf"^pipeline/a\.py: .*{says}"):
        write_closures(root)


LOAD = """
import sys
from importlib import import_module
for stage in sys.argv[1:]:
    import_module(f"stages.{stage}")
    ours = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("pipeline", "stages")}
    print(stage, *(module.__file__ for module in ours.values()), sep="\\t")
    for name in ours:
        del sys.modules[name]
"""


@pytest.mark.slow
def test_a_script_loads_nothing_that_decides_numbers_outside_its_closure():
    """As far as importing it tells; what is loaded by name is in no closure, on purpose."""
    measured = {name for name in list_studies(ROOT) if find_study(name).measure is not None}
    stages = sorted(set(describe_closures(ROOT)) - measured)
    command = [sys.executable, "-c", LOAD, *stages]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(stages)
    for stage, *loaded in (line.split("\t") for line in lines):
        found = {Path(path).relative_to(ROOT) for path in loaded if not path.endswith("__init__.py")}
        assert Path(f"stages/{stage}.py") in found
        counted = {path for path in found if decides_numbers(path)}
        through_runners = {Path("pipeline/data/arrays.py"), Path("pipeline/compute/cpu.py")}
        assert counted - through_runners <= close_imports(ROOT, [Path(f"stages/{stage}.py")], {}), stage
