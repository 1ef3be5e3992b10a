"""Reads a dataset as uint8 arrays: scikit-learn's digits, CIFAR's archives, or the user's own images."""

import hashlib
import tarfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.arrays import Split
from pipeline.data.download import fetch_file
from pipeline.data.own import fetch_own, split_by_class
from pipeline.schema.base import SpecError
from pipeline.schema.data import CifarSource, Dataset, DigitsSource
from pipeline.schema.files import find_checkout

_CIFAR_SIDE = 32
# The binary version, by number of classes: files of the training split, of the test split, label bytes per image (the
# last byte is the fine label). Source: the datasets' own page.
_CIFAR_LAYOUT = {
    10: ([f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)], ["cifar-10-batches-bin/test_batch.bin"], 1),
    100: (["cifar-100-binary/train.bin"], ["cifar-100-binary/test.bin"], 2),
}


def resize_images(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize [N, C, H, W] to [N, C, size, size], bilinearly; Pillow averages when it shrinks."""
    if images.shape[2:] == (size, size):
        return images
    resized = [
        [np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR)) for plane in image]
        for image in images
    ]
    return np.array(resized, dtype=np.uint8)


def fetch_digits(source: DigitsSource, classes: int) -> tuple[Split, Split]:
    """The 1,797 digits, 8x8, grey levels 0..16 scaled to 0..255; (training split, test split).

    Raises:
        ValueError: scikit-learn's copy has another checksum.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, labels = digits.data.astype(np.uint8), digits.target.astype(np.int64)
    found = hashlib.sha256(pixels.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    if found != source.sha256:
        raise ValueError(f"specs/data.yaml: digits: sha256 is {found}, expected {source.sha256}")
    images = np.round(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    train, test = split_by_class((images, labels), source.test_fraction, source.split_seed)
    return Split(*train, classes), Split(*test, classes)


def _parse_records(content: bytes, label_bytes: int, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [N, 3, 32, 32] and labels [N] of one file of CIFAR's binary version."""
    record = label_bytes + 3 * _CIFAR_SIDE**2
    if not content or len(content) % record:
        raise ValueError(f"has {len(content)} bytes, not a multiple of {record}")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)  # a record: labels, then red, green, blue planes
    labels = records[:, label_bytes - 1].astype(np.int64)
    if labels.max() >= classes:
        raise ValueError(f"a label is {labels.max()}, allowed are 0 to {classes - 1}")
    return records[:, label_bytes:].reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE), labels


def _read_members(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Read files of a tar.gz archive in one pass, without unpacking it to disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if member.name in names and (content := archive.extractfile(member)):
                    found[member.name] = content.read()
    except (tarfile.TarError, EOFError) as error:
        raise SpecError(f"{path}: not a readable tar.gz archive: {error}") from None
    for name in names:
        if name not in found:
            raise SpecError(f"{path}: no file {name} in it")
    return found


def read_cifar(path: Path, classes: int) -> tuple[Split, Split]:
    """Read CIFAR's binary archive without unpacking it; (training split, test split).

    Raises:
        ValueError: not such an archive.
    """
    train, test, label_bytes = _CIFAR_LAYOUT[classes]
    contents = _read_members(path, [*train, *test])

    def join(names: list[str]) -> Split:
        parts = []
        for name in names:
            try:
                parts.append(_parse_records(contents[name], label_bytes, classes))
            except ValueError as error:
                raise ValueError(f"{path}: {name}: {error}") from None
        images, labels = zip(*parts, strict=True)
        return Split(np.concatenate(images), np.concatenate(labels), classes)

    return join(train), join(test)


def fetch_dataset(dataset: Dataset, mirrors: Mapping[str, Sequence[str]], root: Path) -> tuple[Split, Split]:
    """Fetch and verify a dataset at its original image size; (training split, test split).

    Args:
        mirrors: by file; see `fetch_file`.
        root: the project's root; downloads/ in it keeps archives.

    Raises:
        ValueError: the dataset cannot be fetched, or does not match specs/data.yaml.
    """
    source = dataset.source
    if isinstance(source, DigitsSource):
        return fetch_digits(source, dataset.classes)
    if isinstance(source, CifarSource):
        return read_cifar(fetch_file(source, mirrors[source.file], find_checkout(root) / "downloads"), dataset.classes)
    return fetch_own(dataset, source, root)
