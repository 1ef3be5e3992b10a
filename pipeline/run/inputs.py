"""What a stage is made from, its code and its settings: noted when it starts, compared before its result counts.

DVC hashes code and params after the command, so what is edited meanwhile would be recorded as what made the result.
"""

import ast
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("pipeline", "stages")

T = TypeVar("T")

_noted: dict[Path, str] = {}
_read: list[tuple[Callable[[], object], object]] = []


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def strip_words(source: str) -> str:
    """Python code without comments, docstrings, blank lines and blanks at the end of a line; the rest as it is written.

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


def digest_code(path: Path) -> str:
    """SHA-256 of what a Python file says to the machine, whatever it says to people; of other files, of all of it."""
    if path.suffix != ".py":
        return digest_file(path)
    try:
        return hashlib.sha256(strip_words(path.read_text(encoding="utf-8")).encode()).hexdigest()
    except (SyntaxError, ValueError):  # it will not run: any change of it counts
        return digest_file(path)


def list_code() -> dict[str, Path]:
    """Files of this project that are loaded, by module."""
    files = {}
    for name, module in list(sys.modules.items()):
        spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
        name = spec.name if spec else name  # a stage's own is `__main__`
        if file and name.split(".")[0] in ROOMS:
            files[name] = Path(file).resolve()
    return dict(sorted(files.items()))


def _digest_files() -> dict[Path, str]:
    """Of all code and settings."""
    code = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    settings = [ROOT / "params.yaml", *(ROOT / "specs").rglob("*.yaml")]
    return {path: digest_code(path) for path in (*code, *settings) if path.is_file()}


def note_inputs() -> None:
    """Note code and settings as they are now, before anything that computes is imported."""
    _noted.update(_digest_files())


def read_inputs(read: Callable[[], T]) -> T:
    """Read settings, now and once more when they are compared: only a change of what is read matters."""
    value = read()
    _read.append((read, value))
    return value


def check_inputs() -> None:
    """Refuse to go on if what a result is made from is no longer on disk.

    Files of data are not looked at: no command of DVC's changes them while a stage that DVC started runs.

    Raises:
        ValueError: code that is loaded, or settings that were read, have changed since `note_inputs`.
    """
    if not _noted:
        return
    now = _digest_files()
    changed = {path for path in now.keys() | _noted.keys() if now.get(path) != _noted.get(path)}
    stale = changed & set(list_code().values())
    settings = {path for path in changed if path.suffix == ".yaml"}
    if settings and any(read() != value for read, value in _read):
        stale |= settings
    if stale:
        names = ", ".join(sorted(str(path.relative_to(ROOT)) for path in stale))
        raise ValueError(
            f"{names}: changed while this ran, so that the result would be recorded as made by what it says now: "
            "nothing is kept of it. Run again; with the old content back, a training goes on from its last state"
        )


def forget_inputs() -> None:
    """The result is in place: what changes from now on does not concern it."""
    _noted.clear()
