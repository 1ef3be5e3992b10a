"""What settings ask of this machine. DVC skips the stage `check` where no file changed, so it cannot be asked there."""

import os
import shutil
import sys
from pathlib import Path

from pipeline.cpu import lacks_avx2
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute

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
    "reports",
    "runs",
    "samples",
)
"""Folders that DVC's outputs are in."""


class MachineError(SpecError):
    """A setting or a folder that this machine cannot do with."""


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


def check_compute(compute: Compute) -> None:
    """Refuse a device, a compiler or a kind of CPU that is not there; imports torch for `cuda` alone: 3 s.

    Raises:
        MachineError: it is not there.
    """
    if compute.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise MachineError("params.yaml: compute.device = 'cuda': torch sees no GPU here; allowed are auto and cpu")
    elif compute.portable and lacks_avx2():
        raise MachineError("params.yaml: compute.portable = true: this CPU has no AVX2; set it to false")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")  # as torch chooses it
    if compute.compile and shutil.which(compiler.split(" ")[0]) is None:
        raise MachineError(f"params.yaml: compute.compile = true: needs a C++ compiler, and {compiler!r} is not here")
