"""Links that DVC cannot write through. DVC skips the stage `check` where no file changed, so it cannot look there."""

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
"""Folders that DVC's outputs are in."""


def check_links(root: Path) -> None:
    """Refuse a link to a folder above an output: DVC would say so when the command is done, and record nothing.

    Raises:
        MachineError: there is one. (Files may be links: DVC's own, into its cache.)
    """
    folders = [(str(root), OUTPUTS), *((top, names) for name in OUTPUTS for top, names, _ in os.walk(root / name))]
    for top, names in folders:
        for path in (Path(top, name) for name in names):
            if path.is_symlink():
                raise MachineError(
                    f"{path.relative_to(root)}: a symbolic link, behind which DVC records nothing: put a folder in its "
                    "place; for big files on another disk move DVC's cache there, `dvc cache dir --local FOLDER`"
                )
