"""Small pictures of feature maps: a box of C x H x W cells, or the column or the plate that is left of it."""

from itertools import product

_CELLS = {"c": 6, "h": 4, "w": 4}
_SIDE, _DEPTH = 6.0, (3.6, -2.6)
"""Of a cell in front, and what a cell's depth adds to x and y."""
WIDTH, HEIGHT = 48, 42
"""Of a picture."""


_SHADES = (0.25, 0.5, 0.8)


def _shade(i: int, j: int, k: int) -> float:
    """Of a cell, other than its neighbours'."""
    return _SHADES[(i + j + 2 * k + i * j) % 3]


def draw_glyph(axes: str) -> list[tuple[str, float]]:
    """The visible faces of the cells: corners as SVG has them, and opacity.

    Args:
        axes: along which there are several cells, in shades that differ: of `c` into the depth, `h` upwards, `w` to
            the right.
    """
    c, h, w = (_CELLS[axis] if axis in axes else 1 for axis in "chw")
    left = (WIDTH - w * _SIDE - c * _DEPTH[0]) / 2
    bottom = (HEIGHT + h * _SIDE - c * _DEPTH[1]) / 2

    def face(shade: float, *corners: tuple[int, int, int]) -> tuple[str, float]:
        places = ((left + i * _SIDE + k * _DEPTH[0], bottom - j * _SIDE + k * _DEPTH[1]) for i, j, k in corners)
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in places), shade

    return [
        *(
            face(_shade(i, j, 0), (i, j, 0), (i + 1, j, 0), (i + 1, j + 1, 0), (i, j + 1, 0))
            for i, j in product(range(w), range(h))
        ),
        *(
            face(_shade(i, h - 1, k), (i, h, k), (i + 1, h, k), (i + 1, h, k + 1), (i, h, k + 1))
            for i, k in product(range(w), range(c))
        ),
        *(
            face(_shade(w - 1, j, k), (w, j, k), (w, j, k + 1), (w, j + 1, k + 1), (w, j + 1, k))
            for j, k in product(range(h), range(c))
        ),
    ]
