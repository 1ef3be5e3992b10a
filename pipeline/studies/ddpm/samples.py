"""The files of a diffusion model's sample sets, and how they are read."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.arrays import read_arrays
from pipeline.schema.document import read_document
from pipeline.schema.record import Failure
from pipeline.studies.ddpm.study import SampleSets


def name_set(index: int) -> str:
    """File name of a sample set of the last weights."""
    return f"set-{index}.safetensors"


def name_sampled_snapshot(step: int) -> str:
    """File name of the sample set of an earlier snapshot."""
    return f"snapshot-{step:07d}.safetensors"


def name_length(length: float) -> str:
    """File name of the sample set of an average of another length."""
    return f"length-{length:.2f}.safetensors"


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
