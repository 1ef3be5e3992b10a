"""The digest of a file, apart from what fetches files: an edit of that must not make a training stale."""

import hashlib
from pathlib import Path
from typing import Literal


def hash_file(path: Path, algorithm: Literal["sha256"]) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
