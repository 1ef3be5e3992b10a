"""Finds or downloads Inception's weights, and verifies them."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.data.download import fetch_file, find_flaw
from pipeline.schema.data import InceptionExtractor
from pipeline.schema.files import find_checkout

INCEPTION_LOGITS = 1008
"""Logits of the original network: ImageNet's 1000 classes and 8 unused ones."""
INCEPTION_CHANNELS = 3


def find_weights(spec: InceptionExtractor, mirrors: Sequence[str], root: Path) -> Path:
    """The verified file: at the spec's `path` if it has one, else in downloads/, where it is fetched if missing.

    Raises:
        ValueError: the file is missing, wrong, or cannot be fetched; the message says what to put where.
    """
    if spec.path is None:
        try:
            return fetch_file(spec, mirrors, find_checkout(root) / "downloads")
        except ValueError as error:
            raise ValueError(f"{error}; or name a copy there as extractor.path") from None
    path = root / spec.path
    where = f"specs/data.yaml: extractor.path = {spec.path!r}"
    if not path.is_file():
        raise ValueError(
            f"{where}: no such file; put Inception's weights ({mirrors[0]}) there, or set null to fetch them"
        )
    if flaw := find_flaw(path, spec):
        raise ValueError(f"{where}: {flaw}")
    return path
