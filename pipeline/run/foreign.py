"""The code that a user names, `package.module:factory`: its digests, and its import. Needs no torch itself."""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pipeline.run.closures import ROOMS, close_imports, decides_numbers, digest_code, find_module, load_digests
from pipeline.run.inputs import ROOT
from pipeline.schema.base import OUTDATED, SpecError, read_json
from pipeline.schema.compute import Compute
from pipeline.schema.foreign import FOLDER, list_factories, list_files, locate_module
from pipeline.schema.resolved import read_run
from pipeline.schema.study import Run

RunT = TypeVar("RunT", bound=Run)


def _list_imports(root: Path, path: Path) -> Iterator[str]:
    """Dotted names of modules that a file of networks/ may import, at its top or inside a function."""
    try:
        tree = ast.parse((root / path).read_bytes())
    except (SyntaxError, ValueError) as error:
        raise SpecError(f"{path}: {error}") from None
    package = path.relative_to(FOLDER).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" if module else alias.name for alias in node.names)


def list_sources(root: Path, module: str) -> set[Path]:
    """The files of this project that decide what a module of networks/ computes, relative to the root.

    It follows imports within networks/, and from there into pipeline/, as closures do.
    """
    own, ours, todo = set[Path](), set[Path](), list_files(root, module)
    while todo:
        if (current := todo.pop()) in own:
            continue
        own.add(current)
        for name in filter(None, _list_imports(root, current)):
            if name.split(".")[0] not in ROOMS:
                todo += list_files(root, name)
            elif (path := find_module(root, name)) is not None:
                ours.add(path)
    return own | {path for path in ours if decides_numbers(path)} | close_imports(root, ours, {})


def digest_factories(root: Path, run: Run) -> dict[str, str]:
    """The digests of the user's code that a run names, without comments and docstrings, by file; empty if none is.

    They are in the run's file in resolved/, not in a closure: an edit makes the runs stale that name the code, and no
    others of the study.
    """
    modules = [name.partition(":")[0] for name in list_factories(run).values()]
    paths = {path for module in modules for path in list_sources(root, module)}
    known = load_digests(root)
    return {path.as_posix(): digest_code(root / path, known) for path in sorted(paths)}


def read_trained(path: Path, model: type[RunT]) -> tuple[RunT, Compute]:
    """Read run.json of a trained run, see `read_run`.

    Raises:
        SpecError: also if the user's code has changed since the training.
    """
    run, compute = read_run(path, model)
    written = read_json(path, str(path)).get("code", {})
    if not isinstance(written, Mapping):
        raise SpecError(f"{path}: code: not digests of files{OUTDATED}")
    now = digest_factories(ROOT, run)
    for name in dict.fromkeys([*written, *now]):
        if written.get(name) != now.get(name):
            raise SpecError(f"{name}: changed since {path.parent} was trained with it; `dvc repro` trains it anew")
    return run, compute


def _import(name: str, module: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise SpecError(f"{name}: there is no module {error.name!r}") from error
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise SpecError(f"{name}: {module} cannot be imported: {said}") from error


def import_factory(name: str) -> Callable[..., Any]:
    """The factory that a name says, `package.module:factory`: of the current folder, networks/, or a package.

    Raises:
        SpecError: the name is of another form, or there is no such module or factory in it.
    """
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise SpecError(f"{name!r} names no network: package.module:factory is needed")
    for folder in (Path().resolve(), ROOT / FOLDER):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # at the end: no file in it takes the place of a library's
    found = getattr(loaded := _import(name, module), attribute, None)
    if found is None:
        near = get_close_matches(attribute, vars(loaded), 1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise SpecError(f"{name}: {module} has no {attribute!r}{meant}")
    if not callable(found):
        raise SpecError(f"{name}: {attribute} is a {type(found).__name__}; a function or class that makes the network")
    factory: Callable[..., Any] = found
    return factory


def import_own(name: str) -> Callable[..., Any]:
    """The factory of an arm: of networks/ alone, whose digests are in the resolved run.

    Raises:
        SpecError: as `import_factory`; or another module has that name.
    """
    factory, module = import_factory(name), name.partition(":")[0]
    path, loaded = locate_module(ROOT, module), sys.modules[module].__file__
    if path is None or loaded is None or Path(loaded).resolve() != (ROOT / path).resolve():
        raise SpecError(f"{name}: Python takes {module} from {loaded}, not from {FOLDER}/: rename the file there")
    return factory
