"""Downloads a file from the first mirror that works, and verifies its SHA-256."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.schema.base import SpecError
from pipeline.schema.data import RemoteFile
from pipeline.schema.files import digest_file

_BLOCK = 1 << 20


def find_flaw(path: Path, file: RemoteFile) -> str | None:
    """What is wrong with the file at `path`; None if size and SHA-256 are as expected."""
    if not path.is_file():
        return "no such file"
    if (size := path.stat().st_size) != file.size:
        return f"it has {size} bytes, expected {file.size}"
    found = digest_file(path)
    return None if found == file.sha256 else f"its sha256 is {found}, expected {file.sha256}"


def _locate(mirror: str, file: RemoteFile) -> str:
    """The URL or path of the file; a mirror may name the file or its folder."""
    if mirror.startswith(("https://", "http://")):
        return mirror + file.file if mirror.endswith("/") else mirror
    path = Path(url2pathname(urlsplit(mirror).path) if mirror.startswith("file:") else mirror)
    return str(path / file.file if path.is_dir() else path)


def _copy(source: str, target: str, _pooch: object) -> None:
    """Copy a local file; a downloader for pooch."""
    if not Path(source).is_file():  # copying a device would never end
        raise FileNotFoundError("no such file")
    shutil.copyfile(source, target)


def _retrieve(mirror: str, file: RemoteFile, folder: Path) -> None:
    """Fetch from one mirror; pooch downloads to a temporary file, verifies and renames it."""
    import pooch  # imported here because it is slow and seldom needed

    url = _locate(mirror, file)
    # Without "identity", requests unpacks a tar.gz that a server declares as compressed in transit.
    http = pooch.HTTPDownloader(progressbar=True, chunk_size=_BLOCK, headers={"Accept-Encoding": "identity"})
    downloader = http if "://" in url else _copy
    pooch.retrieve(url, f"sha256:{file.sha256}", file.file, folder, downloader=downloader)
    (folder / file.file).chmod(0o644)  # temporary files are readable by their owner only; a container has another user


def fetch_file(file: RemoteFile, mirrors: Sequence[str], folder: Path) -> Path:
    """The verified file in `folder`; downloaded if it is missing or wrong.

    Args:
        mirrors: tried in this order; see `Mirror` in pipeline/schema/data.py.

    Raises:
        SpecError: no mirror works; the message gives the problem with each.
    """
    path = folder / file.file
    flaw = find_flaw(path, file)
    if flaw is None:
        return path
    problems: list[str] = []
    for mirror in mirrors:
        try:
            _retrieve(mirror, file, folder)
            return path
        except (OSError, ValueError) as error:  # requests' errors are OSErrors, a wrong checksum is a ValueError
            problems.append(f"{mirror}: {' '.join(str(error).split())}")
            print(f"{file.file}: {problems[-1]}", file=sys.stderr)
    raise SpecError(
        f"{path}: {flaw}, and no mirror gives it ({'; '.join(problems)}); "
        f"put the file at {path} by hand, or name another mirror in specs/data.yaml"
    )
