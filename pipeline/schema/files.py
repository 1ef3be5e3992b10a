"""How a file is written: beside its place, and put there as a whole.

What is in place may be a link into DVC's cache (`cache.type`): to write through it would change the cache. And no
reader, and nobody after a process that was killed, meets half a file.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LEFTOVERS = "*.partial"
"""What a killed process may leave behind; .dvcignore and .gitignore name it."""


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, beside `path`, which it replaces at the end; after an error nothing has changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # stages may run side by side
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill, beside `path`, which it replaces at the end; after an error nothing has changed."""
    partial = path.with_name(f"{path.name}.partial")  # one process at a time: what was killed leaves only one behind
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file; text as UTF-8, with the line ends that it has."""
    with replace_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, numbers at full precision."""
    write_file(path, json.dumps(content, indent=2) + "\n")
