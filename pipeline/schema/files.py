"""Writes files atomically: to a temporary name first, then renamed.

No reader sees half a file, even after a killed process. The old file may be a link into DVC's cache (`cache.type`);
writing through it would damage the cache.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LEFTOVERS = "*.partial"
"""Temporary files that a killed process may leave behind; .dvcignore and .gitignore exclude them."""


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Context manager: gives a temporary path to write to, and replaces `path` by it at the end.

    After an error, `path` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # stages may run side by side
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Context manager: gives an empty temporary folder to fill, and replaces `path` by it at the end.

    After an error inside the context, `path` is unchanged. One process at a time may do this.
    """
    partial = path.with_name(f"{path.name}.partial")  # a fixed name, so that killed processes leave at most one folder
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file; text is UTF-8, and its line ends stay as they are."""
    with replace_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, with numbers at full precision."""
    write_file(path, json.dumps(content, indent=2) + "\n")


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_checkout(root: Path) -> Path:
    """The user's checkout, even from inside a copy in which DVC runs an experiment (`--temp`, or its queue).

    Such a copy is in .dvc/tmp/exps/. DVC deletes it after the experiment, even after a killed one.
    """
    parents = [root.resolve(), *root.resolve().parents]
    copies = [path for path in parents if path.parts[-3:] == (".dvc", "tmp", "exps")]
    return copies[0].parents[2] if copies else root
