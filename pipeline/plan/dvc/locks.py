"""What a killed DVC leaves behind: locks of processes that are dead, and a dvc.lock that was cut off."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from pipeline.plan.dvc.repo import open_repo


@contextmanager
def hold_project(root: Path) -> Iterator[bool]:
    """Context manager: keeps other commands of DVC's out, and drops the locks of dead ones; False: one is at work.

    Raises:
        SpecError: there is no DVC project.
    """
    from dvc.lock import LockError, make_lock

    with open_repo(root) as repo:
        folder = Path(repo.tmp_dir)
        try:
            repo.lock.lock()
        except LockError:
            yield False
            return
        try:
            hardlink = repo.config["core"].get("hardlink_lock", False)
            with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder), hardlink_lock=hardlink):
                drop_stale_locks(folder / "rwlock")
            yield True
        finally:
            repo.lock.unlock()


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether a process that holds a path still runs: after a reboot or in a container, its number may be another's."""
    try:
        return " ".join(psutil.Process(int(holder["pid"])).cmdline()).endswith(str(holder["cmd"]))
    except psutil.Error:
        return False


def is_busy(path: Path) -> bool:
    """Whether DVC's list of busy paths names a process that still runs; False if the list was cut off."""
    try:
        busy = json.loads(path.read_text(encoding="utf-8"))
        holders = [*busy["write"].values(), *(holder for each in busy["read"].values() for holder in each)]
        return any(map(_is_alive, holders))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def drop_stale_locks(path: Path) -> None:
    """Remove DVC's list of busy paths, which names processes by number alone, if it was cut off or all in it died."""
    if path.exists() and not is_busy(path):
        path.unlink()


def read_lock(content: bytes) -> dict[str, Any] | None:
    """The stages of a dvc.lock; None if DVC cannot read it."""
    from dvc.dvcfile import Lockfile
    from dvc.utils.serialize import ParseError, parse_yaml
    from dvc.utils.strictyaml import YAMLValidationError

    try:
        return dict(Lockfile.validate(parse_yaml(content.decode(), "dvc.lock")).get("stages", {}))
    except (UnicodeDecodeError, ParseError, YAMLValidationError):
        return None


def write_lock(stages: Mapping[str, Any]) -> str:
    """The content of a dvc.lock with these stages."""
    from dvc.utils.serialize import dumps_yaml

    return str(dumps_yaml({"schema": "2.0", "stages": dict(stages)}))
