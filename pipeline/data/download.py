"""Downloads, verified before use. The transport is torchvision's."""

import hashlib
from pathlib import Path
from typing import Literal


def hash_file(path: Path, algorithm: Literal["md5", "sha256"]) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def download_file(url: str, folder: Path, digest: str, algorithm: Literal["md5", "sha256"]) -> Path:
    """The file of a URL in `folder`; one that is there with the right digest is kept.

    A download goes to a temporary name and is moved into place once its digest is right.

    Raises:
        ValueError: the download failed or its digest is wrong; the message says what to do.
    """
    from torchvision.datasets.utils import download_url

    path = folder / url.rsplit("/", 1)[-1]
    if path.exists() and hash_file(path, algorithm) == digest:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        download_url(url, str(folder), partial.name)
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
