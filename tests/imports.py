"""The static import closure of a module of this project."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("pipeline", "stages")


def find_module(name: str) -> Path | None:
    """The file of a dotted module name of this project, relative to the root; None for packages and others."""
    path = Path(*name.split(".")).with_suffix(".py")
    return path if name.split(".")[0] in ROOMS and (ROOT / path).is_file() else None


def direct_imports(path: Path) -> set[Path]:
    """Files of this project that a file imports, at its top or inside a function."""
    found: set[Path | None] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {find_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative import"
            found.add(find_module(node.module))
            found |= {find_module(f"{node.module}.{alias.name}") for alias in node.names}
    return {module for module in found if module is not None}


def close_imports(path: Path) -> set[Path]:
    """A file and everything of this project that it imports, directly or not."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo += direct_imports(current)
    return seen
