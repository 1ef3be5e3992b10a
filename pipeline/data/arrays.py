"""Arrays on disk as safetensors: the same content gives the same bytes. Imports no torch.

Each file holds a digest of its content. Without it, a flipped bit would pass unnoticed: DVC trusts its cache
(README.md, Damaged files), and safetensors has no checksum.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.schema.base import SpecError
from pipeline.schema.files import replace_file

ADVICE = "README.md, Damaged files, says what to do"


@dataclass(frozen=True)
class Split:
    """One split of a dataset."""

    images: NDArray[np.uint8]
    """[N, C, H, W], 0 to 255."""
    labels: NDArray[np.int64]
    """[N], 0 to classes - 1."""
    classes: int

    def __post_init__(self) -> None:
        assert self.images.dtype == np.uint8 and self.images.ndim == 4
        assert self.labels.dtype == np.int64 and len(self.labels) == len(self.images)


def write_split(path: Path, split: Split) -> None:
    """Write a split as one safetensors file."""
    write_arrays(path, {"images": split.images, "labels": split.labels, "classes": np.array(split.classes)})


def read_split(path: Path) -> Split:
    """Read a split that `write_split` wrote.

    Raises:
        ValueError: the file is missing, damaged, or not a split.
    """
    arrays = read_arrays(path)
    kinds = {name: (array.dtype.name, array.ndim) for name, array in arrays.items()}
    if kinds != {"images": ("uint8", 4), "labels": ("int64", 1), "classes": ("int64", 0)}:
        raise ValueError(f"{path}: not the images, labels and classes of a split")
    return Split(arrays["images"], arrays["labels"], int(arrays["classes"]))


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of named, C-contiguous arrays: of names, types, shapes and values, not of the file's layout.

    Weights have a digest of their own, `digest_tensors`: it spells types as torch does, and takes bfloat16, which NumPy
    lacks. The two cannot be merged: existing files hold them.
    """
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as one safetensors file, atomically.

    Raises:
        ValueError: the file cannot be written, e.g. because the disk is full.
    """
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        with replace_file(path) as partial:
            # One metadata key only: safetensors writes several in random order.
            save_file(contiguous, partial, metadata={"sha256": digest_arrays(contiguous)})
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cannot be written: {error}") from None


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read named arrays that `write_arrays` wrote.

    Raises:
        SpecError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            expected = (file.metadata() or {}).get("sha256")
    except FileNotFoundError:
        raise SpecError(f"{path}: the file is missing") from None
    # The last three come from dtypes or numbers of dimensions that NumPy lacks.
    except (SafetensorError, OSError, TypeError, AttributeError, ValueError) as error:
        raise SpecError(f"{path}: not a whole safetensors file: {str(error).splitlines()[0]}; {ADVICE}") from None
    if digest_arrays(arrays) != expected:
        raise SpecError(f"{path}: not the content that was written to it; {ADVICE}")
    return arrays
