"""From a source to uint8 arrays: the digits bundled with scikit-learn, and CIFAR's binary archives."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.arrays import Split
from pipeline.data.download import download_file
from pipeline.schema.data import CifarSource, DigitsSource

_CIFAR_SIDE = 32
# The binary version by number of classes: (members of the training split, of the test split, label bytes an image;
# the last one is the fine label). Source: the datasets' own page.
_CIFAR_LAYOUT = {
    10: ([f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)], ["cifar-10-batches-bin/test_batch.bin"], 1),
    100: (["cifar-100-binary/train.bin"], ["cifar-100-binary/test.bin"], 2),
}


def resize_images(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[N, C, H, W] to [N, C, size, size], bilinear (Pillow's, which averages when it shrinks)."""
    if images.shape[2:] == (size, size):
        return images
    resized = [
        [np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR)) for plane in image]
        for image in images
    ]
    return np.array(resized, dtype=np.uint8)


def fetch_digits(source: DigitsSource, classes: int) -> tuple[Split, Split]:
    """The 1,797 digits, 8x8, grey levels 0..16 stretched to 0..255; (training split, test split).

    Raises:
        ValueError: scikit-learn's copy has another checksum.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels, labels = digits.data.astype(np.uint8), digits.target.astype(np.int64)
    found = hashlib.sha256(pixels.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    if found != source.sha256:
        raise ValueError(f"specs/data.yaml: digits: sha256 is {found}, expected {source.sha256}")
    images = np.round(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=source.test_fraction, random_state=source.split_seed, stratify=labels
    )
    return Split(images[train], labels[train], classes), Split(images[test], labels[test], classes)


def _read_members(path: Path, archive: tarfile.TarFile, names: list[str], label_bytes: int, classes: int) -> Split:
    record = label_bytes + 3 * _CIFAR_SIDE**2
    chunks = []
    for name in names:
        try:
            member = archive.extractfile(name)
        except KeyError:
            member = None
        if member is None:
            raise ValueError(f"{path}: no file {name} in it")
        content = member.read()
        if not content or len(content) % record:
            raise ValueError(f"{path}: {name} has {len(content)} bytes, not a multiple of {record}")
        chunks.append(np.frombuffer(content, np.uint8).reshape(-1, record))
    records = np.concatenate(chunks)
    labels = records[:, label_bytes - 1].astype(np.int64)
    if labels.max() >= classes:
        raise ValueError(f"{path}: a label is {labels.max()}, allowed are 0 to {classes - 1}")
    return Split(records[:, label_bytes:].reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE), labels, classes)


def read_cifar(path: Path, classes: int) -> tuple[Split, Split]:
    """Read CIFAR's binary archive without unpacking it; (training split, test split).

    Raises:
        ValueError: not such an archive.
    """
    train, test, label_bytes = _CIFAR_LAYOUT[classes]
    try:
        with tarfile.open(path, "r:gz") as archive:
            return (
                _read_members(path, archive, train, label_bytes, classes),
                _read_members(path, archive, test, label_bytes, classes),
            )
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a readable tar.gz archive: {error}") from None


def fetch_dataset(source: DigitsSource | CifarSource, classes: int, downloads: Path) -> tuple[Split, Split]:
    """Fetch and verify a dataset at its own size; (training split, test split).

    Args:
        downloads: folder that keeps archives between runs.
    """
    if isinstance(source, DigitsSource):
        return fetch_digits(source, classes)
    if classes not in _CIFAR_LAYOUT:
        raise ValueError(f"specs/data.yaml: classes = {classes}: a cifar source has 10 or 100")
    return read_cifar(download_file(source.url, downloads, source.md5, "md5"), classes)
