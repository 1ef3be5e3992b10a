"""Refuses symbolic links that DVC cannot write through.

Every stage checks this. The stage `check` alone would not do: DVC skips it when no file changed.
"""

import os
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
    folders = [(str(root), OUTPUTS), *((top, names) for name in OUTPUTS for top, names, _ in os.walk(root / name))]
    for top, names in folders:
        for path in (Path(top, name) for name in names):
            if path.is_symlink():
                raise MachineError(
                    f"{path.relative_to(root)}: a symbolic link, behind which DVC records nothing: put a folder in its "
                    "place; for big files on another disk move DVC's cache there, `dvc cache dir --local FOLDER`"
                )
