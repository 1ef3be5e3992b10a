"""The import closure of each stage: its own file and all of this project that it imports, with their digests.

The stage `check` writes them to closures/, one file a stage. A stage depends on its own: a few lines of dvc.yaml and
dvc.lock in place of twenty files for each item, and a new module needs no entry anywhere.
"""

import ast
from pathlib import Path

from pipeline.run.inputs import ROOMS, digest_code
from pipeline.schema.base import SpecError, read_text
from pipeline.schema.files import write_file

FOLDER = Path("closures")


def find_module(root: Path, name: str) -> Path | None:
    """The file of a dotted module name of this project, relative to the root; None for packages and others."""
    path = Path(*name.split(".")).with_suffix(".py")
    return path if name.split(".")[0] in ROOMS and (root / path).is_file() else None


def list_imports(root: Path, path: Path) -> set[Path]:
    """Files of this project that a file imports, at its top or inside a function.

    Raises:
        SpecError: the file is not Python, or imports relatively.
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


def close_imports(root: Path, path: Path, known: dict[Path, set[Path]] | None = None) -> set[Path]:
    """A file and everything of this project that it imports, directly or not.

    Args:
        known: imports of files, filled as they are read.
    """
    known = {} if known is None else known
    seen: set[Path] = set()
    todo = [path]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            if current not in known:
                known[current] = list_imports(root, current)
            todo += known[current]
    return seen


def closure_path(stage: str) -> Path:
    """Where a stage's closure stands, relative to the root."""
    return FOLDER / f"{stage}.txt"


def describe_closures(root: Path) -> dict[str, str]:
    """Contents of closures/ by stage: lines `SHA-256  path`; comments and docstrings do not count."""
    known: dict[Path, set[Path]] = {}
    digests: dict[Path, str] = {}
    contents = {}
    for file in sorted((root / "stages").glob("*.py")):
        if file.stem not in ("__init__", "check"):  # the latter is what writes them
            paths = sorted(close_imports(root, file.relative_to(root), known))
            digests |= {path: digest_code(root / path) for path in paths if path not in digests}
            contents[file.stem] = "".join(f"{digests[path]}  {path.as_posix()}\n" for path in paths)
    return contents


def write_closures(root: Path) -> None:
    """Write closures/ anew."""
    for stage, content in describe_closures(root).items():
        write_file(root / closure_path(stage), content)


def check_closure(root: Path, stage: str) -> None:
    """Refuse to run other code than DVC will record.

    Raises:
        SpecError: a file of the stage's closure is not what closures/ says, or that says nothing.
    """
    path = closure_path(stage)
    try:
        lines = [line.split("  ", 1) for line in read_text(root / path, str(path)).splitlines()]
    except FileNotFoundError:
        raise SpecError(f"{path}: not there; `dvc repro check` writes it") from None
    for digest, name in (line for line in lines if len(line) == 2):
        if not (root / name).is_file() or digest_code(root / name) != digest:
            raise SpecError(f"{name}: changed since {path} was written: nothing was run; run `dvc repro` again")
