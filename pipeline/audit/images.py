"""Images of a file for the audit of a trained network, in batches."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.arrays import read_split
from pipeline.schema.base import SpecError

BATCH, MOST = 32, 512
"""Images in a batch, and of a file: more would only narrow the intervals."""
_LEAST = 24
"""Three batches of eight."""
_COLOURS = (1, 3, 4)


def scale_images(images: NDArray[np.generic]) -> NDArray[np.float32]:
    """Bytes as numbers in [-1, 1]; real numbers as they are."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / 127.5 - 1
    return images.astype(np.float32)


def split_batches(images: NDArray[np.float32]) -> list[Tensor]:
    """At most `MOST` images in batches of one size, evenly taken."""
    kept = images[:: max(1, len(images) // MOST)][:MOST]
    size = min(BATCH, len(kept) // 3)
    return [torch.from_numpy(kept[start : start + size]) for start in range(0, len(kept) - size + 1, size)]


def _load(path: Path) -> NDArray[np.generic]:
    if not zipfile.is_zipfile(path):
        raise SpecError(f"{path}: " + ("not a NumPy archive (.npz)" if path.is_file() else "not there"))
    try:
        with np.load(path, allow_pickle=False) as file:
            name = "images" if "images" in file else file.files[0] if len(file.files) == 1 else None
            if name is None:
                raise ValueError(f"no array 'images' in it; there are {', '.join(file.files)}")
            images: NDArray[np.generic] = file[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SpecError(f"{path}: {error}") from None
    return images


def read_images(path: Path) -> list[Tensor]:
    """Batches of the array `images` of a NumPy archive, or of its only one.

    [N, H, W], [N, H, W, C] or [N, C, H, W], bytes or numbers in the network's own range; anything else is data [N, ...]
    as it is.

    Raises:
        SpecError: there is none, or they are too few.
    """
    images = _load(path)
    if images.ndim < 2 or images.dtype.kind not in "uif":
        raise SpecError(f"{path}: an array of numbers [N, ...] is needed, not {images.dtype} {list(images.shape)}")
    if len(images) < _LEAST:
        raise SpecError(f"{path}: {len(images)} images; at least {_LEAST} are needed")
    if images.ndim == 3:
        images = images[:, None]  # [N, 1, H, W]
    elif images.ndim == 4 and images.shape[3] in _COLOURS and images.shape[1] not in _COLOURS:
        images = images.transpose(0, 3, 1, 2)  # [N, C, H, W]
    return split_batches(np.ascontiguousarray(scale_images(images)))


def read_test_split(root: Path, case: str) -> list[Tensor] | None:
    """Batches of the test split of a case of the study `ddpm`; None where it is not there."""
    path = root / "data" / "ddpm" / case / "test.safetensors"
    return split_batches(scale_images(read_split(path).images)) if path.is_file() else None
