"""Files of a tar.gz archive, read into memory: nothing is unpacked to the disk, and an archive has bounds."""

import gzip
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

_MOST_BYTES = 1 << 28
"""Unpacked, of a member and of all: CIFAR has 185 MB."""
_MOST_MEMBERS = 1000
"""CIFAR has 9."""


class _Bounded(gzip.GzipFile):
    """Ends in an error rather than unpack more than it should."""

    left = _MOST_BYTES

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        self.left -= len(block)
        if self.left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {_MOST_BYTES} bytes")
        return block


def _check_member(member: tarfile.TarInfo, count: int) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise tarfile.ReadError(f"its member {member.name!r} leads outside of it")
    if not member.isdir() and (not member.isreg() or member.issparse()):
        raise tarfile.ReadError(f"its member {member.name!r} is neither a plain file nor a folder")
    if not 0 <= member.size <= _MOST_BYTES:
        raise tarfile.ReadError(
            f"its member {member.name!r} has {member.size} bytes, at most {_MOST_BYTES} are allowed"
        )
    if count > _MOST_MEMBERS:
        raise tarfile.ReadError(f"it has more than {_MOST_MEMBERS} members")


def _read_members(path: Path, names: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    # As a stream: never backwards, so no header can send the reader round in circles.
    with _Bounded(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
        for count, member in enumerate(archive, 1):
            _check_member(member, count)
            if member.name in names:
                content = archive.extractfile(member)
                if content is None or member.name in found:
                    raise tarfile.ReadError(f"its member {member.name!r} is a folder, or is there twice")
                found[member.name] = content.read()
    return found


def read_archive(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """The files of these names in a tar.gz archive.

    Raises:
        ValueError: one is not there, the archive is damaged, or it holds what no data set has: links, devices, paths
            that lead outside, more bytes or members than are allowed.
    """
    try:
        found = _read_members(path, names)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, RecursionError) as error:
        problem = str(error) or type(error).__name__
        raise ValueError(f"{path}: not a readable tar.gz archive: {problem.splitlines()[0]}") from None
    for name in names:
        if name not in found:
            raise ValueError(f"{path}: no file {name} in it")
    return found
