"""Densities of training times u; u = 0 is noise."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.diffusion.time_change import TimeChange, bend

Array = NDArray[np.float64]
Turns = tuple[Array, Array]
"""Times u, rising, and the share of the changes of mode that U-turns from 0 to u have lost, from 0 to 1."""
_PARTS = 400


def dilate_time(k: float, dimension: int) -> TimeChange:
    """Half of the time for u below k / sqrt(d)."""
    return bend(1 - k / dimension**0.5)


def tabulate_turns(find_return: Callable[[float], float], parts: int = _PARTS) -> Turns:
    """The table of U-turns.

    Args:
        find_return: u to the probability to come back to a mode from this mode, not falling.
        parts: of the table, the finer the nearer to noise.
    """
    u = (np.arange(parts + 1) / parts) ** 2
    stays = np.array([find_return(value) for value in u.tolist()])
    return u, (stays - stays[0]) / (stays[-1] - stays[0])


class Density:
    """Training times u from uniform numbers.

    windowed: half of the draws are spread over all times, the other half goes where U-turns change the mode, by the
    inverse of their table. Aranguri and Insulla 2024 (arXiv 2412.07972) put half of the draws in a window by hand.

    Args:
        kind: uniform, dilated or windowed.
        dilation: used where it is dilated.
        make_turns: the table, asked for where it is windowed.
    """

    def __init__(self, kind: str, dilation: TimeChange, make_turns: Callable[[], Turns]) -> None:
        self.kind, self.dilation = kind, dilation
        self._turns = make_turns() if kind == "windowed" else None

    def draw(self, v: Tensor) -> Tensor:
        """Times u [B] from v [B], uniform in [0, 1]."""
        if self._turns is None:
            return v if self.kind == "uniform" else 1 - self.dilation.tau(1 - v)
        u, share = self._turns
        within = torch.from_numpy(np.interp((2 * v - 1).clamp(min=0).numpy(), share, u)).to(v.dtype)
        return torch.where(v < 0.5, 2 * v, within)
