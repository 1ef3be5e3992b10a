"""Checkpoints: an interrupted run resumes, with bit-identical results.

checkpoints/NAME/ holds `state.safetensors`, whose metadata name the work that it belongs to, and the files that the
work has finished. One process at a time works there.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from pipeline.run.inputs import check_inputs, find_checkout, forget_inputs
from pipeline.run.outputs import digest_tensors
from pipeline.run.process import count_seconds
from pipeline.schema.base import SpecError
from pipeline.schema.files import LEFTOVERS, replace_file, replace_folder

_STATE = "state.safetensors"


def fingerprint_work(closure: str, settings: str, **facts: Any) -> str:
    """A digest of all that decides an outcome: the code, the settings, torch's version, and other facts.

    An edit of comments, or of how work is run, leaves it as it is, so that a state stays good.

    Args:
        closure: the stage's, from `require_closure`.
        settings: the resolved ones.
        facts: what JSON can say, such as digests of data.
    """
    everything = [closure, settings, torch.__version__, facts]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def open_checkpoint(root: Path, name: str, fingerprint: str, minutes: float) -> "Checkpoint":
    """The checkpoint of a piece of work, e.g. ddpm/digits/baseline/0.

    Experiments in copies of the checkout may have the same name and other settings, so each has a folder of its own.
    """
    home = find_checkout(root)
    own = name if home == root else f"{name}@{fingerprint[:12]}"
    return Checkpoint(home / "checkpoints" / own, fingerprint, minutes)


def _digest(tensors: Mapping[str, Tensor], content: str) -> str:
    """Of a state: what reads as safetensors may still be damaged."""
    return hashlib.sha256(f"{digest_tensors(tensors)}\n{content}".encode()).hexdigest()


class Checkpoint:
    """A folder for one piece of work; a context manager that holds it for this process.

    `files` is a folder inside it for what the work has finished; what a state counts on must be there before `save`.
    `earlier` are the seconds that other processes spent on the state that was loaded.

    Args:
        folder: e.g. checkpoints/ddpm/digits/baseline/0; made if missing.
        fingerprint: of `fingerprint_work`; a state of other work is left aside, with a line that says so.
        minutes: between saves of `is_due`.
        patience: seconds to wait for the process that has the folder, which may be about to end.
    """

    def __init__(self, folder: Path, fingerprint: str, minutes: float, patience: float = 30) -> None:
        self.folder, self.fingerprint, self.seconds, self.patience = folder, fingerprint, 60 * minutes, patience
        self.files = folder / "files"
        self.saved = time.monotonic()
        self.earlier = 0.0

    def __enter__(self) -> "Checkpoint":
        """Take the folder.

        Raises:
            ValueError: another process has it.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.folder.with_name(f"{self.folder.name}.lock"), self.patience)
        try:
            self.lock.acquire()
        except Timeout:
            raise ValueError(f"{self.folder}: another process is at this work; wait for it, or end it") from None
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                raise
            # Whoever starts the same run twice at once spoils it; that is better than no run at all.
            print(f"{self.folder}: this file system has no locks; do not start one run twice", file=sys.stderr)
        self.folder.mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def load(self) -> tuple[dict[str, Tensor], Any] | None:
        """Tensors and content of the last `save`; None, and no files, where there is none of this work."""
        path = self.folder / _STATE
        try:
            tensors, content, self.earlier = self._read(path)
            return tensors, content
        except FileNotFoundError:
            pass
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
            # What a damaged file says is spelled out and cut, as in every error.
            print(SpecError(f"{path}: left aside, the work begins anew: {error}"), file=sys.stderr)
        shutil.rmtree(self.files, ignore_errors=True)
        self.files.mkdir()
        return None

    def _read(self, path: Path) -> tuple[dict[str, Tensor], Any, float]:
        if not path.is_file():  # safetensors' own error has no type
            raise FileNotFoundError(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("fingerprint") != self.fingerprint:
                raise ValueError("it belongs to another configuration, other data or another version of the code")
        tensors = load(path.read_bytes())  # safe_open's get_tensor loses 64 bytes each time: days of saves would add up
        if metadata.get("digest") != _digest(tensors, metadata.get("content", "")):
            raise ValueError("it is damaged")
        seconds = float(metadata["seconds"])
        return tensors, json.loads(metadata["content"]), seconds if 0 <= seconds < math.inf else 0.0

    def is_due(self) -> bool:
        """Whether the last save is so long ago that another should be made."""
        return time.monotonic() - self.saved >= self.seconds

    def save(self, tensors: Mapping[str, Tensor], content: Any) -> None:
        """Write the state; the one before is replaced once the new one is on the disk and has been read back.

        What the work has finished comes first: after a power cut, no state may count on files that are not there.
        """
        for path in (*self.files.rglob("*"), self.files):
            _flush(path)
        text = json.dumps(content)
        state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        metadata = {"fingerprint": self.fingerprint, "content": text, "digest": _digest(state, text)}
        metadata["seconds"] = str(self.earlier + count_seconds())
        with replace_file(self.folder / _STATE) as partial:
            save_file(state, partial, metadata)
            _flush(partial)
            self._read(partial)
        _flush(self.folder)
        self.saved = time.monotonic()

    def make_folder(self, name: str) -> Path:
        """An empty folder beside `files`, for an outcome of which no state counts on anything."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def finish(self, files: Path, out: Path, keep: bool = False) -> None:
        """Put an outcome in place as a whole, then remove the checkpoint.

        At no moment is a state left without the files that it counts on: they are linked, and the state goes first.

        Args:
            files: `self.files`, or a folder of `make_folder`.
            out: what it replaces.
            keep: leave the state where it is, for another attempt.

        Raises:
            ValueError: code or settings have changed since the stage started; the checkpoint stays.
        """
        check_inputs()
        with replace_folder(out) as whole:
            leftovers = shutil.ignore_patterns(LEFTOVERS)
            shutil.copytree(files, whole, ignore=leftovers, copy_function=_link, dirs_exist_ok=True)
            _flush(whole)
        _flush(out.parent)
        forget_inputs()
        if not keep:
            self.remove()

    def remove(self) -> None:
        """Delete it all."""
        (self.folder / _STATE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: what follows counts on it."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot, for folders
            raise
    finally:
        os.close(opened)


def _link(source: str, target: str) -> None:
    """A second name for a file; a copy where the file system has none."""
    _flush(Path(source))
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
