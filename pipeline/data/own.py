"""Reads the user's own images, from a folder or a NumPy archive, and compares them with specs/data.yaml."""

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.data.arrays import Split
from pipeline.schema.base import SpecError
from pipeline.schema.data import Dataset, FolderSource, NpzSource, OwnSource
from pipeline.schema.files import digest_file

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [N, C, H, H] and their labels [N]."""


@dataclass(frozen=True)
class _Content:
    parts: list[Part]
    """The training and the test split, or all images."""
    classes: int
    sha256: str


def split_by_class(part: Part, fraction: float, seed: int) -> tuple[Part, Part]:
    """Split images so that each class has the same share in both; (training split, test split).

    Args:
        fraction: share of the test split.

    Raises:
        ValueError: a class has too few images.
    """
    from sklearn.model_selection import train_test_split

    images, labels = part
    train, test = train_test_split(np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels)
    return (images[train], labels[train]), (images[test], labels[test])


def _read_image(path: Path, channels: int, size: int) -> NDArray[np.uint8]:
    """Read an image as [C, size, size]: turned upright, cropped to the middle square, resized bilinearly.

    Pillow averages when it shrinks.
    """
    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(("I", "F")):  # Pillow would clip values above 255
                raise ValueError("more than 8 bits a channel")
            image = ImageOps.exif_transpose(opened).convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SpecError(f"{path}: not an image that can be read: {error}") from None
    square = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(square).reshape(size, size, channels).transpose(2, 0, 1)


def _list_entries(folder: Path) -> list[Path]:
    """Entries of a folder, sorted by name, without hidden files such as .DS_Store."""
    return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _list_classes(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class: one sub-folder per class."""
    if not folder.is_dir():
        raise SpecError(f"{folder}: no such folder; without test_fraction, train/ and test/ are needed")
    classes = {entry.name: _list_entries(entry) for entry in _list_entries(folder) if entry.is_dir()}
    if not classes:
        raise SpecError(f"{folder}: no folder in it; one for each class is needed")
    for name, files in classes.items():
        if not files:
            raise SpecError(f"{folder / name}: no image in it")
    return classes


def _read_part(classes: dict[str, list[Path]], source: FolderSource, channels: int) -> Part:
    images = [_read_image(path, channels, source.size) for files in classes.values() for path in files]
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
    return np.stack(images), labels.astype(np.int64)


def _digest_files(folder: Path, files: list[Path]) -> str:
    """SHA-256 of the files' names and contents, in the order of names."""
    names = {path.relative_to(folder).as_posix(): path for path in files}
    lines = [f"{digest_file(names[name])}  {name}\n" for name in sorted(names)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_folder(source: FolderSource, channels: int, folder: Path) -> _Content:
    if not folder.is_dir():
        raise SpecError(f"specs/data.yaml: source.path = {source.path!r}: no such folder")
    parts = [folder] if source.test_fraction is not None else [folder / "train", folder / "test"]
    classes = [_list_classes(part) for part in parts]
    if differing := classes[0].keys() ^ classes[-1].keys():
        raise SpecError(f"{folder}: train/ and test/ have different classes: {', '.join(sorted(differing))}")
    images = [_read_part(part, source, channels) for part in classes]
    files = [path for part in classes for paths in part.values() for path in paths]
    return _Content(images, len(classes[0]), _digest_files(folder, files))


def _load_npz(path: Path, names: list[str]) -> dict[str, NDArray[np.generic]]:
    """Read arrays by name, without unpickling anything."""
    if not zipfile.is_zipfile(path):
        raise SpecError(f"{path}: not a NumPy archive (.npz)")
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in names if name not in file]:
                raise ValueError(f"no array {missing[0]!r} in it; needed are {', '.join(names)}")
            return {name: file[name] for name in names}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SpecError(f"{path}: {error}") from None


def _check_arrays(images: NDArray[np.generic], labels: NDArray[np.generic]) -> Part:
    """Convert arrays of a NumPy archive to images [N, C, H, H] and labels [N].

    Raises:
        ValueError: a type or shape is wrong.
    """
    if images.dtype != np.uint8:
        raise ValueError(f"images have the type {images.dtype}; uint8, 0 to 255, is needed")
    if images.ndim not in (3, 4) or images.shape[1] != images.shape[2]:
        raise ValueError(f"images have the shape {list(images.shape)}; [N, H, H] or [N, H, H, C] is needed")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels have the type {labels.dtype} and the shape {list(labels.shape)}; "
            f"integers of shape [{len(images)}] are needed"
        )
    pixels = images.astype(np.uint8)
    planes = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)  # [N, C, H, H]
    return np.ascontiguousarray(planes), labels.astype(np.int64)


def _count_classes(parts: list[Part]) -> int:
    """Count the classes.

    Raises:
        ValueError: the labels are not 0, 1, 2, ... without a gap.
    """
    found = np.unique(np.concatenate([labels for _, labels in parts])).tolist()
    if found != list(range(len(found))):
        shown = ", ".join(map(str, found[:10]))
        raise ValueError(f"labels are {shown}{', ...' if len(found) > 10 else ''}; 0 to classes - 1 are needed")
    return len(found)


def _read_npz(source: NpzSource, path: Path) -> _Content:
    if not path.is_file():
        raise SpecError(f"specs/data.yaml: source.path = {source.path!r}: no such file")
    prefixes = [""] if source.test_fraction is not None else ["train_", "test_"]
    arrays = _load_npz(path, [f"{prefix}{name}" for prefix in prefixes for name in ("images", "labels")])
    try:
        parts = [_check_arrays(arrays[f"{prefix}images"], arrays[f"{prefix}labels"]) for prefix in prefixes]
        if len(shapes := {images.shape[1:] for images, _ in parts}) > 1:
            raise ValueError(f"training and test images have different shapes: {sorted(shapes)}")
        return _Content(parts, _count_classes(parts), digest_file(path))
    except ValueError as error:
        raise SpecError(f"{path}: {error}") from None


def _split(source: OwnSource, parts: list[Part]) -> list[Part]:
    if source.test_fraction is None or source.split_seed is None:
        return parts
    try:
        return list(split_by_class(parts[0], source.test_fraction, source.split_seed))
    except ValueError as error:  # from scikit-learn: a class has too few images
        raise SpecError(f"{source.path}: test_fraction = {source.test_fraction}: {error}") from None


def _compare(dataset: Dataset, source: OwnSource, content: _Content, train: Part, test: Part) -> None:
    """Refuse images that differ from specs/data.yaml; the message gives the values to write there."""
    found = {
        "source.sha256": (source.sha256, content.sha256),
        "channels": (dataset.channels, train[0].shape[1]),
        "classes": (dataset.classes, content.classes),
        "train_images": (dataset.train_images, len(train[0])),
        "test_images": (dataset.test_images, len(test[0])),
    }
    wrong = [f"{key}: {is_} (not {said or 'null'})" for key, (said, is_) in found.items() if is_ != said]
    if wrong:
        raise SpecError(f"the content of {source.path} has {', '.join(wrong)}; write that into specs/data.yaml")


def fetch_own(dataset: Dataset, source: FolderSource | NpzSource, root: Path) -> tuple[Split, Split]:
    """Read and check the user's own images; (training split, test split).

    Raises:
        SpecError: images are missing or unreadable, or do not match specs/data.yaml.
    """
    path = root / source.path
    content = _read_folder(source, dataset.channels, path) if source.kind == "folder" else _read_npz(source, path)
    train, test = _split(source, content.parts)
    _compare(dataset, source, content, train, test)
    return Split(*train, dataset.classes), Split(*test, dataset.classes)
