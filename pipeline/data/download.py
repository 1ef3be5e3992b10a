"""A file from the first mirror that gives it, verified, and put in place as a whole by one process at a time."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock, Timeout

from pipeline.data.partial import MirrorError, Partial, Patience, find_flaw, name_mirror
from pipeline.schema.data import RemoteFile

PATIENCE = Patience()
"""The usual patience with a server."""


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def _hold(path: Path) -> Iterator[None]:
    """Be the only process that fetches this file; one that dies holds nothing."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(f"{path}: another process is fetching it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _copy(source: Path, partial: Partial) -> None:
    """Take a file of this machine."""
    try:
        source = source / partial.file.file if source.is_dir() else source
        flaw = find_flaw(source, partial.file) if source.exists() else "no such file"
    except OSError as error:
        raise MirrorError(error.strerror) from None
    if flaw:
        raise MirrorError(flaw)
    partial.begin(str(source), None)
    shutil.copyfile(source, partial.path)
    if flaw := find_flaw(partial.path, partial.file):
        partial.discard()
        raise MirrorError(f"the copy is not what it was: {flaw}")


def _transfer(mirror: str, partial: Partial, patience: Patience) -> None:
    """Fetch over HTTP; what was resumed and is wrong as a whole is fetched once more from its first byte."""
    from pipeline.data.transfer import transfer_url  # requests: only where the network is needed

    url = mirror + partial.file.file if mirror.endswith("/") else mirror
    for again in (False, True):
        whole = transfer_url(url, partial, patience)
        flaw = find_flaw(partial.path, partial.file)
        if flaw is None:
            return
        partial.discard()
        if whole or again:
            raise MirrorError(flaw)
        _say(f"{partial.target}: resumed, and wrong as a whole: {flaw}; from the beginning")


def _take(mirror: str, partial: Partial, patience: Patience) -> None:
    if "://" not in mirror:
        _copy(Path(mirror), partial)
    elif mirror.startswith("file:"):
        _copy(Path(url2pathname(urlsplit(mirror).path)), partial)
    else:
        _transfer(mirror, partial, patience)


def _fetch(path: Path, file: RemoteFile, mirrors: Sequence[str], patience: Patience) -> Path:
    flaw = find_flaw(path, file) if path.exists() else "no such file"
    if flaw is None:  # another process has put it there
        return path
    if path.exists():
        _say(f"{path}: {flaw}; fetching it anew")
    partial, problems = Partial(path, file), []
    for mirror in mirrors:
        try:
            _take(mirror, partial, patience)
            return partial.finish()
        except MirrorError as error:
            problems.append(f"{name_mirror(mirror)}: {error}")
            if mirror != mirrors[-1]:
                _say(f"{path.name}: {problems[-1]}; on to the next mirror")
        except OSError as error:
            raise ValueError(f"{partial.path}: {error.strerror or error}; what has come is kept") from None
    raise ValueError(
        f"{path}: {flaw}, and no mirror gives it ({'; '.join(problems)}); "
        f"put the file at {path} by hand, or name another mirror in specs/data.yaml"
    )


def fetch_file(file: RemoteFile, mirrors: Sequence[str], folder: Path, patience: Patience = PATIENCE) -> Path:
    """The verified file in `folder`; one that is there and right is taken as it is, and nothing is asked for.

    Args:
        mirrors: tried in this order; see `Mirror` in pipeline/schema/data.py.
        patience: with servers.

    Raises:
        ValueError: no mirror gives it, or the disk does not take it; the message says what to do.
    """
    path = folder / file.file
    if path.exists() and find_flaw(path, file) is None:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with _hold(path):
        return _fetch(path, file, mirrors, patience)
