"""Imports the code that a user names, `package.module:factory`. Needs no torch itself."""

import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.schema.base import SpecError


def _import(name: str, module: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise SpecError(f"{name}: there is no module {error.name!r}") from error
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise SpecError(f"{name}: {module} cannot be imported: {said}") from error


def import_factory(name: str, folder: Path) -> Callable[..., Any]:
    """The factory that a name says; modules of a folder are found, and come before installed ones.

    Args:
        name: `package.module:factory`.

    Raises:
        SpecError: the name is of another form, or there is no such module or factory in it.
    """
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        raise SpecError(f"{name!r} names no network: package.module:factory is needed")
    if (place := str(folder.resolve())) not in sys.path:
        sys.path.insert(0, place)
    found = getattr(loaded := _import(name, module), attribute, None)
    if found is None:
        near = get_close_matches(attribute, vars(loaded), 1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise SpecError(f"{name}: {module} has no {attribute!r}{meant}")
    if not callable(found):
        raise SpecError(f"{name}: {attribute} is a {type(found).__name__}; a function or class that makes the network")
    factory: Callable[..., Any] = found
    return factory
