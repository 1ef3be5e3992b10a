"""Checks a stage's code and settings at its start, and again before its result counts.

DVC hashes dependencies after the command. Without the second check, DVC would record an edit made meanwhile as the
input of the result.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline.run.closures import closure_path, describe_closures, find_changed
from pipeline.schema.base import SpecError, read_text

ROOT = Path(__file__).resolve().parent.parent.parent
T = TypeVar("T")

_checks: list[Callable[[], None]] = []
_AGAIN = (
    "changed while this ran, so that the result would be recorded as made by what it says now: nothing is kept of it. "
    "Run again; with the old content back, a training goes on from its last state"
)


def runs_under_dvc() -> bool:
    """Whether DVC started this process, and will record its outputs."""
    return "DVC_STAGE" in os.environ


def require_closure(stage: str) -> str:
    """The closure of a stage; `check_inputs` checks its code again.

    Raises:
        SpecError: under DVC, the code differs from closures/.
    """
    path = closure_path(stage)
    if runs_under_dvc():
        try:
            content = read_text(ROOT / path, str(path))
        except FileNotFoundError:
            raise SpecError(f"{path}: not there; `dvc repro check` writes it") from None
        if (name := find_changed(ROOT, content)) is not None:
            raise SpecError(f"{name}: changed since {path} was written: nothing was run; run `dvc repro` again")
    else:
        content = describe_closures(ROOT)[stage]

    def check() -> None:
        if (name := find_changed(ROOT, content)) is not None:
            raise SpecError(f"{name}: {_AGAIN}")

    _checks.append(check)
    return content


def require_file(path: Path, describe: Callable[[], str], check_file: Callable[[Path, Path, str], None]) -> str:
    """The settings of a file of resolved/, resolved again; `check_inputs` checks them again.

    Args:
        path: relative to the root.
        describe: resolves the settings and returns the file's content.
        check_file: refuses a file with another content.

    Raises:
        SpecError: under DVC, the settings differ from the file.
    """
    content = describe()
    if runs_under_dvc():
        check_file(ROOT, path, content)

    def check() -> None:
        if describe() != content:
            raise SpecError(f"params.yaml or specs/, of which {path} is made: {_AGAIN}")

    _checks.append(check)
    return content


def read_inputs(read: Callable[[], T]) -> T:
    """Read settings now; `check_inputs` reads them again and compares."""
    value = read()

    def check() -> None:
        if read() != value:
            raise SpecError(f"params.yaml or specs/: {_AGAIN}")

    _checks.append(check)
    return value


def check_inputs() -> None:
    """Refuse to go on if code or settings have changed since they were read.

    Raises:
        SpecError: they have.
    """
    for check in _checks:
        check()


def forget_inputs() -> None:
    """Drop all checks: the result is in place, and later edits do not concern it."""
    _checks.clear()
