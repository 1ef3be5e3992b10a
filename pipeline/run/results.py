"""Trained models from one checkout to another, through a folder or a web server: DVC's cache, without a training."""

import json
import subprocess
import sys
from pathlib import Path

from pipeline.schema.base import SpecError

_REMOTE = "pipeline-results"
_NAMED = 3
"""Outputs that a message names."""


def _run_dvc(root: Path, *arguments: str) -> None:
    """Run DVC.

    Raises:
        SpecError: it ends with an error, which is on stderr.
    """
    if subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=False).returncode:
        raise SpecError(f"`dvc {' '.join(arguments)}` ended with an error")


def _set_remote(root: Path, place: str) -> None:
    """Make a place DVC's remote, whose files are verified; in .dvc/config.local, which git does not track."""
    _run_dvc(root, "remote", "add", "--quiet", "--local", "--force", _REMOTE, place)
    _run_dvc(root, "remote", "modify", "--local", _REMOTE, "verify", "true")


def give_results(root: Path, folder: Path) -> None:
    """Copy what dvc.lock needs, and git does not hold, into a folder.

    Raises:
        SpecError: DVC ends with an error.
    """
    _set_remote(root, str(folder.resolve()))
    _run_dvc(root, "push", "--remote", _REMOTE)


def take_results(root: Path, source: str) -> None:
    """Fetch what dvc.lock needs from such a folder or its address, and put it in place; md5 sums are compared.

    What the source lacks, or has damaged, is left out, and the rest is put in place.

    Raises:
        SpecError: there is no such folder, DVC ends with an error, or something was left out.
    """
    if not source.startswith(("http://", "https://")):
        if not Path(source).is_dir():
            raise SpecError(f"{source}: there is no such folder; allowed: a folder, or https://HOST/...")
        source = str(Path(source).resolve())
    _set_remote(root, source)
    _run_dvc(root, "pull", "--remote", _REMOTE, "--allow-missing")
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    said = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout
    parts = [part for found in json.loads(said).values() for part in found if isinstance(part, dict)]
    left = sorted({path for part in parts for path in part.get("changed outs", {})})
    if left:
        named = ", ".join(left[:_NAMED]) + (", ..." if len(left) > _NAMED else "")
        raise SpecError(
            f"{source}: of {len(left)} outputs a file is missing there or damaged, and they were left out: {named}; "
            "the others are in place, and `python -m pipeline run` makes these"
        )
