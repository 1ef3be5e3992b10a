"""Fields that name code of the user's, `package.module:factory`, in the folder networks/. Imports none of it."""

import ast
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from pipeline.schema.arm import list_fields
from pipeline.schema.base import SpecError
from pipeline.schema.mistakes import find_meant

FOLDER = Path("networks")
"""Where the user's code lies: the stage `check` depends on it, so that `dvc repro` notices an edit."""
PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
"""Of such a name."""


@dataclass(frozen=True)
class Foreign:
    """Marks a field whose value names code of the user's; the digests of that code are in the resolved run."""


def list_factories(run: BaseModel) -> dict[str, str]:
    """The names of factories in a run, by field."""
    marked = {
        name: getattr(getattr(run, field.part), name)
        for name, field in list_fields(type(run)).items()
        if any(isinstance(mark, Foreign) for mark in field.info.metadata)
    }
    return {name: value for name, value in marked.items() if value is not None}


def list_files(root: Path, module: str) -> list[Path]:
    """The files of networks/ that importing a module runs, relative to the root; its packages' come first."""
    parts = module.split(".")
    folders = [FOLDER.joinpath(*parts[:index]) for index in range(1, len(parts) + 1)]
    tried = [path for folder in folders for path in (folder / "__init__.py", folder.with_suffix(".py"))]
    return [path for path in tried if (root / path).is_file()]


def locate_module(root: Path, module: str) -> Path | None:
    """The file of a module in networks/, relative to the root."""
    place = FOLDER.joinpath(*module.split("."))
    tried = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in tried if (root / path).is_file()), None)


def _list_names(tree: ast.Module) -> set[str]:
    """What a file defines or imports at its top; `*` if it imports whatever there is."""
    found = set[str]()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.If | ast.Try):
            found.add("*")  # who knows
    return found


def check_factories(root: Path, run: BaseModel) -> None:
    """Refuse a run that names a factory which is not there; nothing is imported.

    Raises:
        SpecError: with the field, and what there is.
    """
    for field, name in list_factories(run).items():
        module, _, attribute = name.partition(":")
        if (path := locate_module(root, module)) is None:
            missing = FOLDER.joinpath(*module.split(".")).with_suffix(".py")
            raise SpecError(f"{field} = {name!r}: {missing} is not there")
        try:
            known = _list_names(ast.parse((root / path).read_bytes()))
        except (SyntaxError, ValueError) as error:
            raise SpecError(f"{field} = {name!r}: {path}: {error}") from None
        if attribute not in known and "*" not in known:
            raise SpecError(f"{field} = {name!r}: {path} has no {attribute!r}{find_meant(attribute, known)}")
