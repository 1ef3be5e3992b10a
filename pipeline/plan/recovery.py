"""What a killed `dvc` or a merge of git's leaves behind, and what stops the next one.

Knows DVC's internals (3.67), as fate.py does. DVC writes dvc.lock in place, over seconds where there are many stages:
killed then, it leaves a file that no command of DVC's reads. A merge of two branches that both trained leaves git's
conflict markers in it, or a stage twice. And DVC's list of busy paths names processes by number alone: after a reboot,
or in a new container, another process may have that number, and DVC waits for it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from pipeline.schema.base import CONFLICT_MARKERS, SpecError, read_text
from pipeline.schema.files import write_file


def print_recovery(root: Path) -> None:
    """Mend what is broken and say so, a line each; while another command of DVC's is at work there, touch nothing.

    Raises:
        SpecError: there is no DVC project, or a merge of settings is left open, which nobody else can decide.
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
    root = Path(repo.root_dir)
    lock = root / "dvc.lock"
    if not is_whole(lock):
        aside = _find_free_name(lock)
        lock.rename(aside)
        sides = _restore(lock)
        instead = f"what git has of it ({', '.join(sides)}) is in its place" if sides else "a new one will be written"
        yield (
            f"dvc.lock: cut off, or merged by git as text; it is {aside.name} now, and {instead}. "
            "DVC's cache gives back what was finished"
        )
    for ledger in sorted((root / "ledger").glob("*/*.tsv")):
        if _unite_rows(ledger):
            yield f"{ledger.relative_to(root)}: a merge that git left open; it has the rows of both sides now"
    settings = [root / "params.yaml", root / "dvc.yaml", *sorted((root / "specs").rglob("*.yaml"))]
    for path in settings:
        if path.is_file():
            read_text(path, str(path.relative_to(root)))


_SIDES = ((":2", ":3"), ("HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD"), ("HEAD^1", "HEAD^2", "ORIG_HEAD"))
"""Where git has lock files that DVC wrote: the sides of a merge that is open, of one under way, of one that is done."""


def _restore(lock: Path) -> list[str]:
    """Put the lock files that git has in place, stage by stage; returns their revisions, none if there is none.

    A stage's entry is true whatever branch it is from: with these dependencies it made those outputs. So all are kept,
    and of one that several have, the one that differs from where the branches parted, or the first.
    """
    from dvc.utils.serialize import dumps_yaml

    for names in _SIDES:
        sides = {name: stages for name in names if (stages := _read_stages(lock, name)) is not None}
        if sides:
            base = _read_stages(lock, ":1") or {}
            merged: dict[str, Any] = {}
            for stages in sides.values():
                for stage, entry in stages.items():
                    if stage not in merged or merged[stage] == base.get(stage):
                        merged[stage] = entry
            write_file(lock, dumps_yaml({"schema": "2.0", "stages": merged}))
            return list(sides)
    return []


def _read_stages(lock: Path, revision: str) -> dict[str, Any] | None:
    """The stages of the lock file that git has there; None if it has none that DVC can read."""
    command = ["git", "show", f"{revision}:./{lock.name}"]
    try:
        found = subprocess.run(command, cwd=lock.parent, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return _parse_stages(found.stdout)


def _unite_rows(path: Path) -> bool:
    """Take git's conflict markers out of a table, and rows that both sides have; returns whether there were any."""
    rows = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [row for row in rows if not row.startswith(CONFLICT_MARKERS)]
    if found := len(kept) < len(rows):
        write_file(path, "".join(dict.fromkeys(kept)))
    return found


def _parse_stages(content: bytes) -> dict[str, Any] | None:
    """The stages of a lock file; None if DVC cannot read it."""
    from dvc.dvcfile import Lockfile
    from dvc.utils.serialize import ParseError, parse_yaml
    from dvc.utils.strictyaml import YAMLValidationError

    try:
        stages = Lockfile.validate(parse_yaml(content.decode(), "dvc.lock")).get("stages", {})
    except (UnicodeDecodeError, ParseError, YAMLValidationError):
        return None
    return dict(stages)


def is_whole(lock: Path) -> bool:
    """Whether DVC can read a lock file; one that is not there is well."""
    return not lock.exists() or _parse_stages(lock.read_bytes()) is not None


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
    write_file(path, json.dumps(busy))
