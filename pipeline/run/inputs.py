"""What a stage is made from, its code and its settings: looked at when it starts, and again before its result counts.

DVC hashes code and settings after the command, so what is edited meanwhile would be recorded as what made the result.
"""

import hashlib
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


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_checkout(root: Path) -> Path:
    """The user's own checkout, also where DVC runs an experiment in a copy of it (`--temp`, or from its queue).

    Such a copy is in .dvc/tmp/exps/ and is gone with the experiment, even if that was killed.
    """
    parents = [root.resolve(), *root.resolve().parents]
    copies = [path for path in parents if path.parts[-3:] == (".dvc", "tmp", "exps")]
    return copies[0].parents[2] if copies else root


def runs_under_dvc() -> bool:
    """Whether DVC started this process, and will record what it makes."""
    return "DVC_STAGE" in os.environ


def require_closure(stage: str) -> str:
    """The closure of a stage, whose code is looked at again at the end.

    Raises:
        SpecError: DVC started this, and would record other code than is here.
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
    """The settings that a file of resolved/ holds, resolved anew; they are looked at again at the end.

    Args:
        path: relative to the root.
        describe: resolves them.
        check_file: refuses a file that says something else.

    Raises:
        SpecError: DVC started this, and would record other settings than there are.
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
    """Read settings, now and once more at the end: only a change of what is read matters."""
    value = read()

    def check() -> None:
        if read() != value:
            raise SpecError(f"params.yaml or specs/: {_AGAIN}")

    _checks.append(check)
    return value


def check_inputs() -> None:
    """Refuse to go on if what a result is made from is no longer on disk.

    Raises:
        SpecError: code or settings have changed since they were read.
    """
    for check in _checks:
        check()


def forget_inputs() -> None:
    """The result is in place: what changes from now on does not concern it."""
    _checks.clear()
