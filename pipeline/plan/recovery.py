"""`recover`: mends what a killed `dvc` or a merge of git's leaves of dvc.lock, and drops the locks of dead processes.

DVC writes dvc.lock in place, over seconds where there are many stages: killed then, it leaves a file that no command
of DVC's reads. A merge of two branches that both trained leaves git's conflict markers in it, or a stage twice.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.plan.dvc.locks import hold_project, read_lock, write_lock
from pipeline.schema.files import write_file

_SIDES = ("HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD", ":3")
"""Where git has dvc.lock: the last commit; the other side of a merge that is open (:3 is a stash's)."""
_BASE = ":1"
"""Where git has it as it was before the branches parted."""


def print_recovery(root: Path) -> None:
    """Mend what is broken, and say so; while another command of DVC's is at work, touch nothing.

    Raises:
        SpecError: there is no DVC project.
    """
    lock = root / "dvc.lock"
    with hold_project(root) as held:
        if not held or not lock.exists() or read_lock(lock.read_bytes()) is not None:
            return
        aside = lock.with_name("dvc.lock.broken")
        lock.replace(aside)
        sides = _restore(lock)
        instead = f"what git has of it ({', '.join(sides)}) is in its place" if sides else "a new one will be written"
        print(
            f"dvc.lock: cut off, or merged by git as text; it is {aside.name} now, and {instead}. "
            "DVC's cache gives back what was finished",
            file=sys.stderr,
        )


def _restore(lock: Path) -> list[str]:
    """Write dvc.lock with the stages of all sides that git has; returns the sides.

    A stage's entry is true whatever side it is from: with these dependencies it made those outputs. So all are kept,
    and of a stage that several sides have, the entry that changed since the branches parted, or the first.
    """
    found = {side: stages for side in _SIDES if (stages := _read_side(lock, side)) is not None}
    base, merged = _read_side(lock, _BASE) or {}, dict[str, Any]()
    for stages in found.values():
        for stage, entry in stages.items():
            if stage not in merged or merged[stage] == base.get(stage):
                merged[stage] = entry
    if found:
        write_file(lock, write_lock(merged))
    return list(found)


def _read_side(lock: Path, side: str) -> dict[str, Any] | None:
    """The stages of dvc.lock on a side; None: git has none there, or none that DVC can read."""
    command = ["git", "show", f"{side}:./{lock.name}"]
    try:
        found = subprocess.run(command, cwd=lock.parent, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return read_lock(found.stdout)
