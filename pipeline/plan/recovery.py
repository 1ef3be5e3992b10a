"""What a killed `dvc` may leave behind, and what stops the next one. Knows DVC's internals (3.67), as fate.py does.

DVC writes dvc.lock in place, over seconds where there are many stages: killed then, it leaves a file that no command of
DVC's reads. And its list of busy paths names processes by number alone: after a reboot, or in a new container, another
process may have that number, and DVC waits for it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from pipeline.schema.base import SpecError


def print_recovery(root: Path) -> None:
    """Mend what is broken and say so, a line each; while another command of DVC's is at work there, touch nothing.

    Raises:
        SpecError: there is no DVC project.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo, repo.lock:
            for line in _recover(repo):
                print(line, file=sys.stderr)
    except LockError:
        return
    except DvcException as error:
        raise SpecError(f"DVC: {str(error).splitlines()[0]}") from None


def _recover(repo: Any) -> Iterator[str]:
    from dvc.lock import make_lock

    folder = Path(repo.tmp_dir)
    hardlink = repo.config["core"].get("hardlink_lock", False)
    with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder), hardlink_lock=hardlink):
        drop_dead_holders(folder / "rwlock")
    lock = Path(repo.root_dir) / "dvc.lock"
    if is_whole(repo, lock):
        return
    aside = _find_free_name(lock)
    lock.rename(aside)
    instead = "the last commit's is in its place" if _restore(repo, lock) else "a new one will be written"
    yield f"dvc.lock was cut off; it is {aside.name} now, and {instead}. DVC's cache gives back what was finished"


def _restore(repo: Any, lock: Path) -> bool:
    """Put the lock file of the last commit in place, if there is one: fewer stages to look up in the cache."""
    try:
        found = subprocess.run(["git", "show", "HEAD:./dvc.lock"], cwd=lock.parent, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    lock.write_bytes(found.stdout)
    if not is_whole(repo, lock):
        lock.unlink()
    return lock.exists()


def is_whole(repo: Any, lock: Path) -> bool:
    """Whether DVC can read a lock file; one that is not there is well."""
    from dvc.dvcfile import Lockfile
    from dvc.utils.serialize import EncodingError
    from dvc.utils.strictyaml import YAMLSyntaxError, YAMLValidationError

    try:
        Lockfile(repo, str(lock)).load()
    except (YAMLSyntaxError, YAMLValidationError, EncodingError):
        return False
    return True


def _find_free_name(lock: Path) -> Path:
    """dvc.lock.broken, or with a number where that is taken."""
    names = [f"{lock.name}.broken", *(f"{lock.name}.broken-{number}" for number in range(2, 1000))]
    return next(lock.with_name(name) for name in names if not lock.with_name(name).exists())


def _is_alive(holder: dict[str, object]) -> bool:
    """Whether a process that holds a path still runs: its number may be another's by now."""
    try:
        return " ".join(psutil.Process(int(str(holder["pid"]))).cmdline()).endswith(str(holder["cmd"]))
    except psutil.Error:
        return False


def drop_dead_holders(path: Path) -> None:
    """Take the dead out of DVC's list of busy paths; a list that cannot be read was cut off, and goes."""
    try:
        busy = json.loads(path.read_text(encoding="utf-8"))
        busy["write"] = {name: holder for name, holder in busy.get("write", {}).items() if _is_alive(holder)}
        readers = {name: list(filter(_is_alive, holders)) for name, holders in busy.get("read", {}).items()}
        busy["read"] = {name: holders for name, holders in readers.items() if holders}
    except FileNotFoundError:
        return
    except (ValueError, KeyError, AttributeError, TypeError):
        path.unlink()
        return
    path.write_text(json.dumps(busy), encoding="utf-8")
