"""A grid of images as one picture."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def write_empty_preview(path: Path) -> None:
    """Write a small grey picture, in place of a grid that there are no images for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (40, 40), 128).save(path)


def write_preview(path: Path, images: NDArray[np.uint8], columns: int = 20, rows: int = 5, side: int = 40) -> None:
    """Write the first columns x rows images [N, C, H, W] as a PNG, each about `side` pixels wide, a gap between."""
    shown = images[: columns * rows]
    scale = max(1, side // images.shape[2])
    shown = shown.repeat(scale, axis=2).repeat(scale, axis=3)
    _, channels, height, width = shown.shape
    gap = 2
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for index, image in enumerate(shown):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas.squeeze(2) if channels == 1 else canvas).save(path)
