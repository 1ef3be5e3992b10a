"""Initial value problems on [0, 1]. torchdiffeq is named here only."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint


class SolveError(ValueError):
    """The solver gave up; the message says why."""


class _Counted(nn.Module):
    """A vector field that counts its evaluations, and keeps the autocast of the forward pass in the backward solve."""

    def __init__(self, field: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.field = field
        self.evaluations = 0
        self.device_type = device.type
        self.autocast = torch.is_autocast_enabled(device.type)
        self.autocast_dtype = torch.get_autocast_dtype(device.type)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.evaluations += 1
        with torch.autocast(self.device_type, self.autocast_dtype, enabled=self.autocast):
            value: Tensor = self.field(t, x)
        return value.to(x.dtype)


@dataclass(frozen=True)
class Solution:
    """The state at t = 1 and what it cost."""

    x: Tensor
    """The shape of the initial state."""
    nfe: int
    """Function evaluations of the forward solve (NFE-F)."""


def solve(
    field: nn.Module,
    x: Tensor,
    method: Literal["dopri5"],
    rtol: float,
    atol: float,
    gradient: Literal["adjoint", "direct"],
) -> Solution:
    """Integrate dx/dt = field(t, x) from t = 0 to t = 1.

    The whole batch shares its steps: one error norm over all of x. With `gradient="adjoint"` only parameters
    that `field` owns get a gradient (torchdiffeq's rule), so whatever the field uses must be its submodule.

    Args:
        field: the vector field, called as (t, x) with t a scalar tensor; it may be evaluated beyond t = 1.
        x: initial state, any shape; float32 or wider, also under autocast.

    Raises:
        SolveError: the step size underflows, which a state that is not finite causes too.
    """
    counted = _Counted(field, x.device)
    integrate = odeint_adjoint if gradient == "adjoint" else odeint
    times = torch.tensor([0.0, 1.0], device=x.device)
    try:
        with torch.autocast(x.device.type, enabled=False):
            states = integrate(counted, x, times, rtol=rtol, atol=atol, method=method)
    except AssertionError as error:  # torchdiffeq asserts "underflow in dt" and finite states
        raise SolveError(f"the ODE solver gave up after {counted.evaluations} evaluations: {error}") from None
    return Solution(states[-1], counted.evaluations)
