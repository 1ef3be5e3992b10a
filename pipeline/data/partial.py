"""A file on its way: what has come of it survives the process, and only the whole of it gets the file's name."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from pipeline.run.inputs import digest_file
from pipeline.schema.data import RemoteFile


class MirrorError(Exception):
    """A mirror does not give the file; another one may. The text is one line without the mirror's name."""


@dataclass(frozen=True)
class Patience:
    """How long a mirror is waited for, in seconds. No chance in it: a failing download takes as long every time."""

    connect: float = 15
    answer: float = 60
    """Until the headers of an answer are there, looking up the name and connecting included."""
    stall: float = 60
    """Without a byte, or with fewer than `slowest` a second."""
    slowest: float = 1024
    """Bytes a second."""
    tries: int = 5
    """In a row, none of which brings a hundredth of the file."""
    backoff: float = 1
    """Before the second of them; twice as long before each further one."""
    longest: float = 60
    """Before any try; a server that asks for more is left."""


def name_mirror(mirror: str) -> str:
    """A mirror as messages show it: of a URL no user, password and query, which may be secret."""
    if "://" not in mirror:
        return mirror
    parts = urlsplit(mirror)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def find_flaw(path: Path, file: RemoteFile) -> str | None:
    """What is wrong with the file at `path`, or None: it is the one that is wanted."""
    if not path.is_file():
        return "it is no file"
    size = path.stat().st_size
    if size != file.size:
        return f"it has {size} bytes, expected {file.size}"
    found = digest_file(path)
    return None if found == file.sha256 else f"its sha256 is {found}, expected {file.sha256}"


class Partial:
    """NAME.partial, and in NAME.partial.origin of which version of a file at which URL it is the beginning.

    The origin saves a download that would fail at its end. What decides is the checksum of the whole.
    """

    def __init__(self, target: Path, file: RemoteFile) -> None:
        self.target, self.file = target, file
        self.path = target.with_name(f"{target.name}.partial")
        self.origin = target.with_name(f"{target.name}.partial.origin")

    def measure(self) -> int:
        """Bytes that have come."""
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, url: str, etag: str | None) -> None:
        """Forget what has come: what follows is the file at `url` in the version `etag`, from its first byte."""
        self.path.write_bytes(b"")
        self.origin.write_text(f"{url}\n{etag or ''}\n", encoding="utf-8")

    def recall_etag(self, url: str) -> str | None:
        """The version at `url` of which this is the beginning; None: it is not known, or came from elsewhere."""
        lines = self.origin.read_text(encoding="utf-8", errors="replace").split("\n") if self.origin.exists() else []
        return lines[1] or None if len(lines) == 3 and lines[0] == url else None

    def open(self) -> BinaryIO:
        """To append to it."""
        return self.path.open("ab")

    def discard(self) -> None:
        """Delete what has come."""
        self.path.unlink(missing_ok=True)
        self.origin.unlink(missing_ok=True)

    def finish(self) -> Path:
        """Put the whole and verified file in its place, for good even if the power fails."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self.origin.unlink(missing_ok=True)
        if os.name == "posix":  # Windows opens no folders
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return self.target
