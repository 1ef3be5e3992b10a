"""Refuses symbolic links that DVC cannot write through.

Every stage checks this. The stage `check` alone would not do: DVC skips it when no file changed.
"""

import os
from contextlib import suppress
from pathlib import Path

from pipeline.schema.base import MachineError

OUTPUTS = (
    "closures",
    "curves",
    "data",
    "evaluations",
    "extractors",
    "ledger",
    "metrics",
    "records",
    "references",
    "resolved",
    "reports",
    "runs",
    "samples",
)
"""Folders with DVC's outputs."""


def check_links(root: Path) -> None:
    """Refuse a link to a folder above an output: after the command, DVC would fail and record nothing.

    Links to files are allowed: DVC makes them itself, into its cache.

    Raises:
        MachineError: there is such a link.
    """
    folders = [str(root)]
    while folders:  # every stage does this: `os.walk` takes three times as long
        top = folders.pop()
        with suppress(FileNotFoundError), os.scandir(top) as entries:  # another stage's output may just be removed
            for entry in entries:
                if top == str(root) and entry.name not in OUTPUTS:
                    continue
                if entry.is_symlink() and (entry.is_dir() or top == str(root)):
                    path = Path(entry.path).relative_to(root)
                    raise MachineError(
                        f"{path}: a symbolic link, behind which DVC records nothing: put a folder in its place; for "
                        "big files on another disk move DVC's cache there, `dvc cache dir --local FOLDER`"
                    )
                if entry.is_dir():
                    folders.append(entry.path)
