"""The sample sets of one diffusion model, as sampling left them in a folder."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.arrays import read_arrays
from pipeline.schema.document import read_document
from pipeline.schema.record import Failure
from pipeline.studies.ddpm.study import SampleSets


def locate_set(folder: Path, index: int) -> Path:
    """The file of a sample set of the last weights."""
    return folder / f"set-{index}.safetensors"


def locate_snapshot(folder: Path, step: int) -> Path:
    """The file of the sample set of earlier weights."""
    return folder / f"snapshot-{step:07d}.safetensors"


def read_samples(folder: Path) -> SampleSets | Failure:
    """What there is in the folder, or why there is nothing.

    Raises:
        SpecError: the file that says so is missing or damaged.
    """
    if (folder / "failure.json").is_file():
        return read_document(folder / "failure.json", Failure)
    return read_document(folder / "samples.json", SampleSets)


def read_set(path: Path, images: int, shape: list[int]) -> NDArray[np.uint8]:
    """A sample set [N, C, H, W].

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
