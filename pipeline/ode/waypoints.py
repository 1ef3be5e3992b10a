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


def follow(field: nn.Module, x: Tensor, times: Sequence[float], method: Method) -> tuple[list[Tensor], int]:
    """The states at rising times, and the number of function evaluations (NFE); without a gradient.

    Each part chooses its first step anew, which costs it an evaluation more than one solve over all would need.

    Args:
        x: state at the first of the times, any shape.

    Raises:
        SolveError: as `solve`.
    """
    states, nfe = [x], 0
    with torch.no_grad():
        for start, end in pairwise(times):
            solution = solve(Span(field, start, end), states[-1], method)
            states.append(solution.x)
            nfe += solution.nfe
    return states, nfe
