"""Arrays on disk: safetensors written so that the same content gives the same bytes. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file


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
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {"images": np.ascontiguousarray(split.images), "labels": split.labels}
    save_file(arrays, path, metadata={"classes": str(split.classes)})


def read_split(path: Path) -> Split:
    """Read a split that `write_split` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return Split(file.get_tensor("images"), file.get_tensor("labels"), int(file.metadata()["classes"]))
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file: {error}") from None


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as one safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read named arrays.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file: {error}") from None
