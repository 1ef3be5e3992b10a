"""Files from a URL, verified before use. What goes over the network is torchvision's business."""

import hashlib
import shutil
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname


def hash_file(path: Path, algorithm: Literal["md5", "sha256"]) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _transfer(url: str, target: Path) -> None:
    parts = urlsplit(url)
    if parts.scheme == "file":
        shutil.copyfile(url2pathname(parts.path), target)
        return
    from torchvision.datasets.utils import download_url

    download_url(url, str(target.parent), target.name)


def download_file(url: str, folder: Path, digest: str, algorithm: Literal["md5", "sha256"]) -> Path:
    """The file of a URL in `folder`; one that is there with the right digest is kept.

    A download goes to a temporary name and is moved into place once its digest is right.

    Raises:
        ValueError: the download failed or its digest is wrong; the message says what to do.
    """
    path = folder / url.rsplit("/", 1)[-1]
    if path.exists() and hash_file(path, algorithm) == digest:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        _transfer(url, partial)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise ValueError(
            f"{url}: download failed ({error}); put the file at {path} by hand, or change the url in specs/data.yaml"
        ) from None
    found = hash_file(partial, algorithm)
    if found != digest:
        partial.unlink()
        raise ValueError(f"{url}: the {algorithm} of the download is {found}, expected {digest}; it was removed")
    return partial.replace(path)
