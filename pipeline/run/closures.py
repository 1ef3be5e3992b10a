"""Closures: the files that decide a stage's numbers, with their digests. A closure is the cache key of a stage's code.

The stage `check` writes closures/: one file per stage, and one for each study that is measured in one step. A closure
follows the imports of the stage's script. It leaves out the script itself, the schema (pipeline/schema/ and each
study's study.py, whose validated fields are in resolved/), and runner code (pipeline/run/).
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from pipeline.schema.base import SpecError
from pipeline.schema.files import write_file, write_json
from pipeline.schema.study import find_study, list_studies

RUNNER = 1
"""Part of every closure. Raise it when a change of pipeline/run/ or pipeline/schema/ could change numbers."""
FOLDER = Path("closures")
_DIGESTS = Path(".dvc/tmp/digests.json")
"""A cache: stripping a closure's files of words takes longer than a short stage's start."""
ROOMS = ("pipeline", "stages")
_VIEWS = ("draw", "render", "report", "text")
"""Stages that look up each study's own part of the report."""


def strip_words(source: str) -> str:
    """Python code without comments, docstrings, blank lines and blanks at the end of a line; the rest as it is written.

    The text is cut, not written anew by `ast.unparse`, whose output may differ from one version of Python to the next.

    Raises:
        SyntaxError: it is not Python.
    """
    lines = [line.encode() for line in source.splitlines()]  # ast counts bytes
    docstrings: list[ast.Expr] = []
    strings: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for node in ast.walk(ast.parse(source)):  # a statement comes before its value
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.append(node)
        elif isinstance(node, ast.Constant | ast.JoinedStr) and all(node is not word.value for word in docstrings):
            strings.append(((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)))
    for word in docstrings:
        if not lines[word.lineno - 1][: word.col_offset].strip():  # else something stands before it on its line
            last = word.end_lineno or word.lineno
            lines[word.lineno - 1 : last] = [b""] * (last - word.lineno + 1)
    for number, line in enumerate(lines, 1):
        column = line.find(b"#")
        while column >= 0:
            if not any(start <= (number, column) < end for start, end in strings):
                lines[number - 1] = line[:column]
                break
            column = line.find(b"#", column + 1)
    text = {number for start, end in strings for number in range(start[0], end[0])}  # that goes on in the next line
    text |= {number + 1 for number in text}
    kept = [line if number in text else line.rstrip() for number, line in enumerate(lines, 1)]
    return "".join(f"{line.decode()}\n" for number, line in enumerate(kept, 1) if line or number in text)


def digest_code(path: Path, known: dict[str, str] | None = None) -> str:
    """SHA-256 of a Python file without comments, docstrings and layout; of any other file, SHA-256 of its content.

    Args:
        known: digests by the SHA-256 of a file's whole content; what is new is added.
    """
    content = path.read_bytes()
    whole = hashlib.sha256(content).hexdigest()
    if path.suffix != ".py":
        return whole
    if known is not None and whole in known:
        return known[whole]
    with suppress(SyntaxError, ValueError):  # a file that is not Python counts as a whole
        content = strip_words(content.decode()).encode()
    digest = hashlib.sha256(content).hexdigest()
    if known is not None:
        known[whole] = digest
    return digest


def find_module(root: Path, name: str) -> Path | None:
    """The file of a dotted module name, relative to the root. None for packages and for modules of other projects."""
    path = Path(*name.split(".")).with_suffix(".py")
    return path if name.split(".")[0] in ROOMS and (root / path).is_file() else None


def list_imports(root: Path, path: Path) -> set[Path]:
    """Files of this project that a file imports, at its top or inside a function.

    Raises:
        SpecError: the file is not Python, or has a relative import.
    """
    try:
        tree = ast.parse((root / path).read_bytes())
    except (SyntaxError, ValueError) as error:
        raise SpecError(f"{path}: {error}") from None
    found: set[Path | None] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {find_module(root, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module:
                raise SpecError(f"{path}: line {node.lineno}: a relative import; write out the module's name")
            found.add(find_module(root, node.module))
            found |= {find_module(root, f"{node.module}.{alias.name}") for alias in node.names}
    return {module for module in found if module is not None}


def decides_numbers(path: Path) -> bool:
    """Whether a file belongs in closures: it is neither schema, nor runner code, nor a stage's script."""
    room = path.parts[:2]
    return room not in (("pipeline", "schema"), ("pipeline", "run")) and room[0] != "stages" and path.name != "study.py"


def close_imports(root: Path, roots: Iterable[Path], known: dict[Path, set[Path]]) -> set[Path]:
    """All files that the roots import, directly or indirectly, and that belong in closures.

    Args:
        known: a cache of each file's imports; filled here.
    """
    seen, todo = set[Path](), list(roots)
    while todo:
        current = todo.pop()
        if current not in known:
            known[current] = list_imports(root, current)
        fresh = {path for path in known[current] if decides_numbers(path)} - seen
        seen |= fresh
        todo += fresh
    return seen


def _list_roots(root: Path) -> dict[str, set[Path]]:
    """The files from which each closure follows imports, by name of the closure."""
    scripts = [path.relative_to(root) for path in sorted((root / "stages").glob("*.py"))]
    roots = {path.stem: {path} for path in scripts if path.stem not in ("__init__", "check", "measure")}
    views = {path.relative_to(root) for path in (root / "pipeline" / "studies").rglob("*views.py")}
    for stage in _VIEWS:
        if stage in roots:
            roots[stage] |= views
    for study in list_studies(root):
        if find_study(study).measure is not None:
            folder = Path("pipeline") / "studies"
            files = [folder / f"{study}.py", folder / study / "study.py"]
            assert study not in roots, f"{study}: a stage of that name has a closure"
            roots[study] = {Path("stages/measure.py"), *(path for path in files if (root / path).is_file())}
    return roots


def closure_path(stage: str) -> Path:
    """The file of a closure, relative to the root."""
    return FOLDER / f"{stage}.txt"


def describe_closures(root: Path) -> dict[str, str]:
    """The closures by name: a line with the runner's number, then lines `SHA-256  path`."""
    imports: dict[Path, set[Path]] = {}
    known = load_digests(root)
    contents = {}
    for stage, roots in _list_roots(root).items():
        paths = close_imports(root, roots, imports) | {path for path in roots if decides_numbers(path)}
        lines = [f"{digest_code(root / path, known)}  {path.as_posix()}" for path in sorted(paths)]
        contents[stage] = "\n".join([f"runner {RUNNER}", *lines]) + "\n"
    return contents


def write_closures(root: Path) -> None:
    """Write all files of closures/, and the digests, so that a stage need not parse the code again."""
    for stage, content in describe_closures(root).items():
        write_file(root / closure_path(stage), content)
    write_json(root / _DIGESTS, load_digests(root))


@cache
def load_digests(root: Path) -> dict[str, str]:
    """Digests of code by the SHA-256 of a file's whole content, as `check` left them; empty if it did not."""
    with suppress(OSError, ValueError):
        found = json.loads((root / _DIGESTS).read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def find_changed(root: Path, content: str) -> str | None:
    """What first differs from a closure's content: a file, or the runner's number; None if nothing does."""
    runner, *lines = content.splitlines() or [""]
    known = load_digests(root)
    if runner != f"runner {RUNNER}":
        return "the runner's number"
    for line in lines:
        digest, name = line.split("  ", 1)
        if not (root / name).is_file() or digest_code(root / name, known) != digest:
            return name
    return None
