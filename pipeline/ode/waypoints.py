"""The states of a solve at several times, by one solve from each to the next."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.ode.solve import Method, solve


class Span(nn.Module):
    """A vector field (t, x) from `start` to `end`, as one whose time goes from 0 to 1."""

    def __init__(self, field: nn.Module, start: float, end: float) -> None:
        super().__init__()
        self.field, self.start, self.length = field, start, end - start

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The derivative by the new time, in the shape of x."""
        value: Tensor = self.field(self.start + self.length * t, x)
        return self.length * value


def follow(field: nn.Module, x: Tensor, times: Sequence[float], method: Method) -> list[Tensor]:
    """The states at rising times, without a gradient.

    Each part chooses its first step anew, so that all together take more function evaluations than one solve would.

    Args:
        x: state at the first of the times, any shape.

    Raises:
        SolveError: as `solve`.
    """
    states = [x]
    with torch.no_grad():
        for start, end in pairwise(times):
            states.append(solve(Span(field, start, end), states[-1], method).x)
    return states


def count_evaluations(field: nn.Module, x: Tensor, start: float, end: float, method: Method) -> int:
    """Function evaluations (NFE) of one solve from `start` to `end`, without a gradient.

    Raises:
        SolveError: as `solve`.
    """
    with torch.no_grad():
        return solve(Span(field, start, end), x, method).nfe
