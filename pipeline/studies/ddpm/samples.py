"""Reads the sample sets of a diffusion model from their folder."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.arrays import read_arrays
from pipeline.schema.document import read_document
from pipeline.schema.record import Failure
from pipeline.studies.ddpm.study import SampleSets


def locate_set(folder: Path, index: int) -> Path:
    """File of a sample set of the last weights."""
    return folder / f"set-{index}.safetensors"


def locate_snapshot(folder: Path, step: int) -> Path:
    """File of the sample set of an earlier snapshot."""
    return folder / f"snapshot-{step:07d}.safetensors"


def read_samples(folder: Path) -> SampleSets | Failure:
    """The description of the sample sets in a folder, or the failure of their run.

    Raises:
        SpecError: samples.json or failure.json is missing or damaged.
    """
    if (folder / "failure.json").is_file():
        return read_document(folder / "failure.json", Failure)
    return read_document(folder / "samples.json", SampleSets)


def read_set(path: Path, images: int, shape: list[int]) -> NDArray[np.uint8]:
    """Read a sample set [N, C, H, W].

    Args:
        images: expected N.
        shape: expected [C, H, W].

    Raises:
        ValueError: the file is missing or damaged, or holds another number or size of images.
    """
    if not path.is_file():
        raise ValueError(f"{path}: the file is missing")
    found = read_arrays(path).get("images")
    if found is None or found.dtype != np.uint8:
        raise ValueError(f"{path}: no array `images` of uint8 in it")
    if found.shape != (images, *shape):
        raise ValueError(f"{path}: images have the shape {list(found.shape)}, expected {[images, *shape]}")
    return found
