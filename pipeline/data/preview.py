"""Draws grids of images as PNG files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.schema.files import replace_file

_SIDE = 40
"""Approximate width of an image in the grid, in pixels."""
_GAP, _WIDE_GAP = 2, 8


def _save(path: Path, picture: Image.Image, info: PngInfo | None = None) -> None:
    with replace_file(path) as partial:
        picture.save(partial, "PNG", pnginfo=info)


def write_empty_preview(path: Path) -> None:
    """Write a small grey picture: the preview of a run without images."""
    _save(path, Image.new("L", (40, 40), 128))


def _arrange(images: NDArray[np.uint8], columns: int, rows: int, side: int) -> NDArray[np.uint8]:
    """Arrange images [N, C, H, W] in a grid [H, W, C], white where there are none."""
    scale = max(1, side // images.shape[2])
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    _, channels, height, width = images.shape
    canvas = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, channels), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + _GAP), (index % columns) * (width + _GAP)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas


def _write(path: Path, canvas: NDArray[np.uint8], **text: str) -> None:
    """Write a canvas [H, W, C] as a PNG, with text metadata."""
    info = PngInfo()
    for name, value in text.items():
        info.add_text(name, value)
    _save(path, Image.fromarray(canvas.squeeze(2) if canvas.shape[2] == 1 else canvas), info)


def write_preview(path: Path, images: NDArray[np.uint8], columns: int = 20, rows: int = 5, side: int = _SIDE) -> None:
    """Write the first columns x rows of the images [N, C, H, W] as a PNG; each is about `side` pixels wide."""
    _write(path, _arrange(images[: columns * rows], columns, rows, side))


def write_trajectory(path: Path, trajectory: Mapping[str, NDArray[Any]], side: int = _SIDE) -> None:
    """Write a sampling trajectory as a PNG: one column per moment, two rows per image (x_t, then its x0-prediction).

    The PNG's text field `levels` holds the levels of the columns.

    Args:
        trajectory: `x` and `x0` [moments, images, C, H, W] uint8; `levels` [moments], negative for the final image.
    """
    levels = trajectory["levels"].tolist()
    x, x0 = (trajectory[name].swapaxes(0, 1) for name in ("x", "x0"))  # [images, moments, C, H, W]
    pairs = [_arrange(np.concatenate(pair), len(levels), 2, side) for pair in zip(x, x0, strict=True)]
    gap = np.full((_WIDE_GAP, *pairs[0].shape[1:]), 255, np.uint8)
    canvas = np.concatenate([part for pair in pairs for part in (gap, pair)][1:])
    _write(path, canvas, levels=", ".join("image" if level < 0 else str(level) for level in levels))
