"""Import closures: what they hold, and that a stage runs the code that they speak of or nothing."""

import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
from problems import ROOT

from pipeline.run.closures import check_closure, close_imports, closure_path, describe_closures, write_closures
from pipeline.run.inputs import strip_words
from pipeline.schema.base import SpecError

FILES = {
    "stages/__init__.py": "",
    "stages/check.py": "",
    "stages/one.py": "from pipeline.a import x\n",
    "stages/two.py": "def f():\n    import pipeline.c\n",
    "pipeline/a.py": "import json\nfrom pipeline import b\nx = 1\n",
    "pipeline/b.py": "",
    "pipeline/c.py": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    write_closures(tmp_path)
    return tmp_path


def names(root: Path, stage: str) -> list[str]:
    return [line.split("  ")[1] for line in (root / closure_path(stage)).read_text().splitlines()]


def test_a_closure_has_what_is_imported_at_the_top_inside_functions_and_as_a_module(root: Path):
    assert names(root, "one") == ["pipeline/a.py", "pipeline/b.py", "stages/one.py"]
    assert names(root, "two") == ["pipeline/c.py", "stages/two.py"]
    assert sorted(path.name for path in (root / "closures").iterdir()) == ["one.txt", "two.txt"]


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
    check_closure(root, "one")
    for old, new in (
        ("LIMIT = 3", "LIMIT = 4"),
        ("ä # ", "ä #  "),
        ("        return", "        x = 1\n        return"),
    ):
        assert old in plain
        (root / "pipeline/b.py").write_text(told.replace(old, new))
        assert describe_closures(root)["one"] != before["one"], new


def list_tokens(source: str) -> list[str]:
    """What Python reads, without statements that are nothing but a string."""
    layout = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type != tokenize.NL]
    tokens = [token for token in tokens if token.type != tokenize.COMMENT]
    found = []
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        alone = (before is None or before.type in layout) and after is not None and after.type == tokenize.NEWLINE
        if token.type not in layout and not (token.type == tokenize.STRING and alone):
            found.append(token.string)
    return found


def test_only_words_are_taken_from_the_code_of_this_project():
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        stripped = strip_words(source)
        assert list_tokens(stripped) == list_tokens(source), path
        assert len(stripped) < len(source) or not source, path


def test_a_change_is_one_of_the_closures_that_have_the_file(root: Path):
    before = describe_closures(root)
    (root / "pipeline/b.py").write_text("changed = 1\n")
    after = describe_closures(root)
    assert {stage for stage in before if before[stage] != after[stage]} == {"one"}
    check_closure(root, "two")
    with pytest.raises(SpecError, match=r"^pipeline/b\.py: changed since closures/one\.txt was written"):
        check_closure(root, "one")
    write_closures(root)
    check_closure(root, "one")
    (root / "pipeline/a.py").unlink()
    with pytest.raises(SpecError, match=r"^pipeline/a\.py: changed"):
        check_closure(root, "one")


def test_a_closure_that_is_not_there(root: Path):
    with pytest.raises(SpecError, match=r"^closures/three\.txt: not there; `dvc repro check` writes it"):
        check_closure(root, "three")


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
from pipeline.run.inputs import list_code
for stage in sys.argv[1:]:
    import_module(f"stages.{stage}")
    print(stage, *list_code().values(), sep="\\t")
    for name in [name for name in sys.modules if name.split(".")[0] in ("pipeline", "stages")]:
        del sys.modules[name]
"""


def test_a_script_loads_nothing_of_this_project_outside_its_closure():
    """As far as importing it tells; what is loaded by name is in no closure, on purpose."""
    stages = sorted(describe_closures(ROOT))
    command = [sys.executable, "-c", LOAD, *stages]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(stages)
    for stage, *loaded in (line.split("\t") for line in lines):
        found = {Path(path).relative_to(ROOT) for path in loaded if not path.endswith("__init__.py")}
        assert Path(f"stages/{stage}.py") in found
        assert found <= close_imports(ROOT, Path(f"stages/{stage}.py"))
