"""Inception's weights: found or fetched, verified either way."""

from pathlib import Path

from pipeline.data.download import download_file, hash_file
from pipeline.schema.data import InceptionExtractor

"""Dimension of the last pooling layer, in which the FID is defined (Heusel et al. 2017)."""
INCEPTION_LOGITS = 1008
"""Of the original network: ImageNet's 1000 classes and 8 that are unused."""
INCEPTION_CHANNELS = 3


def find_weights(spec: InceptionExtractor, root: Path) -> Path:
    """The verified file: at `path` if specs/data.yaml gives one, else in downloads/, else fetched from `url` to there.

    Raises:
        ValueError: it is not there, has another sha256 or cannot be fetched; the message says what to put where.
    """
    if spec.path is None:
        try:
            return download_file(spec.url, root / "downloads", spec.sha256, "sha256")
        except ValueError as error:
            raise ValueError(f"{error}; or name a copy there as extractor.path") from None
    path = root / spec.path
    where = f"specs/data.yaml: extractor.path = {spec.path!r}"
    if not path.is_file():
        raise ValueError(
            f"{where}: no such file; put Inception's weights there ({spec.url}), or set null to fetch them"
        )
    found = hash_file(path, "sha256")
    if found != spec.sha256:
        raise ValueError(f"{where}: its sha256 is {found}, expected {spec.sha256}")
    return path
