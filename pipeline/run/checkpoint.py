"""Checkpoints: an interrupted run resumes with bit-identical results.

checkpoints/NAME/ holds `state.safetensors` and the files that the work has finished. The state's metadata identify the
work that it belongs to. A lock admits one process at a time.
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

from pipeline.run.inputs import check_inputs, forget_inputs
from pipeline.run.outputs import digest_tensors
from pipeline.run.process import count_seconds
from pipeline.schema.base import SpecError
from pipeline.schema.files import LEFTOVERS, find_checkout, replace_file, replace_folder

_STATE = "state.safetensors"


def fingerprint_work(closure: str, settings: str, **facts: Any) -> str:
    """A digest of everything that decides a result: code, settings, torch's version and further facts.

    Editing comments or runner code does not change it, so checkpoints stay valid.

    Args:
        closure: the stage's closure, from `require_closure`.
        settings: the resolved settings.
        facts: JSON values, such as digests of data.
    """
    everything = [closure, settings, torch.__version__, facts]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def open_checkpoint(root: Path, name: str, fingerprint: str, minutes: float) -> "Checkpoint":
    """The checkpoint of a piece of work, e.g. ddpm/digits/baseline/0.

    DVC experiments in copies of the checkout may have the same name and other settings; each gets its own folder.

    Args:
        minutes: between two saves.
    """
    home = find_checkout(root)
    own = name if home == root else f"{name}@{fingerprint[:12]}"
    return Checkpoint(home / "checkpoints" / own, fingerprint, minutes)


def _digest(tensors: Mapping[str, Tensor], content: str) -> str:
    """Digest of a state: a damaged file may still be valid safetensors."""
    return hashlib.sha256(f"{digest_tensors(tensors)}\n{content}".encode()).hexdigest()


class Checkpoint:
    """The checkpoint folder of one piece of work; a context manager that locks it for this process.

    `files` is the sub-folder for finished files; those that a state relies on must be there before `save`. `earlier` is
    the time in seconds that earlier processes spent on the loaded state.

    Args:
        folder: e.g. checkpoints/ddpm/digits/baseline/0; created if missing.
        fingerprint: from `fingerprint_work`. A state with another fingerprint is ignored, with a message.
        minutes: between two saves; see `is_due`.
        patience: seconds to wait for the lock, whose holder may be about to end.
    """

    def __init__(self, folder: Path, fingerprint: str, minutes: float, patience: float = 30) -> None:
        self.folder, self.fingerprint, self.seconds, self.patience = folder, fingerprint, 60 * minutes, patience
        self.files = folder / "files"
        self.saved = time.monotonic()
        self.earlier = 0.0

    def __enter__(self) -> "Checkpoint":
        """Lock the folder.

        Raises:
            ValueError: another process holds the lock.
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
            # Without locks, two processes could spoil one run; that is better than no run at all.
            print(f"{self.folder}: this file system has no locks; do not start one run twice", file=sys.stderr)
        self.folder.mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def load(self) -> tuple[dict[str, Tensor], Any] | None:
        """Tensors and content of the last `save`; None, with `files` emptied, if there is no valid state."""
        path = self.folder / _STATE
        try:
            tensors, content, self.earlier = self._read(path)
            return tensors, content
        except FileNotFoundError:
            pass
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
            # SpecError escapes control characters, which a damaged file may hold.
            print(SpecError(f"{path}: left aside, the work begins anew: {error}"), file=sys.stderr)
        shutil.rmtree(self.files, ignore_errors=True)
        self.files.mkdir()
        return None

    def _read(self, path: Path) -> tuple[dict[str, Tensor], Any, float]:
        if not path.is_file():  # safetensors would raise an untyped error
            raise FileNotFoundError(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("fingerprint") != self.fingerprint:
                raise ValueError("it belongs to another configuration, other data or another version of the code")
        tensors = load(path.read_bytes())  # safe_open's get_tensor leaks 64 bytes per call, which adds up over days
        if metadata.get("digest") != _digest(tensors, metadata.get("content", "")):
            raise ValueError("it is damaged")
        seconds = float(metadata["seconds"])
        return tensors, json.loads(metadata["content"]), seconds if 0 <= seconds < math.inf else 0.0

    def is_due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self.saved >= self.seconds

    def save(self, tensors: Mapping[str, Tensor], content: Any) -> None:
        """Save the state; it replaces the last one only after it has been flushed to disk and read back.

        Finished files are flushed first: after a power cut, no state may rely on missing files.
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
        """An empty folder beside `files`, for results on which no state relies."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def finish(self, files: Path, out: Path, keep: bool = False) -> None:
        """Move the results to `out` atomically, then delete the checkpoint.

        Files are hard-linked and the state is deleted first, so a state never lacks the files that it relies on.

        Args:
            files: `self.files`, or a folder from `make_folder`.
            out: the folder to replace.
            keep: keep the state for another attempt.

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
        """Delete the checkpoint."""
        (self.folder / _STATE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _flush(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk (fsync)."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush folders
            raise
    finally:
        os.close(opened)


def _link(source: str, target: str) -> None:
    """Hard-link a file; copy it where the file system has no hard links."""
    _flush(Path(source))
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
