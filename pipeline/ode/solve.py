"""Solves initial value problems on [0, 1] with a gradient. The only file that imports torchdiffeq."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.ode.dopri5 import SolveError as SolveError
from pipeline.ode.dopri5 import Tolerance
from pipeline.ode.field import CountedField
from pipeline.ode.gradients import AdjointSolve, DirectSolve, Inputs, Problem, integrate


@dataclass(frozen=True)
class Method:
    """Solver, tolerances, step limit and gradient."""

    solver: Literal["dopri5", "bosh3", "dopri8"]
    implementation: Literal["native", "torchdiffeq"]
    rtol: float
    atol: float
    max_steps: int
    gradient: Literal["adjoint", "direct"]
    adjoint_norm: Literal["mixed", "seminorm"]


class Solution:
    """The state at t = 1 and the numbers of function evaluations (NFE)."""

    def __init__(self, x: Tensor, counted: CountedField) -> None:
        self.x = x
        self.nfe = counted.evaluations
        self._counted = counted

    @property
    def nfe_backward(self) -> int:
        """Function evaluations of the adjoint solve (NFE-B); 0 before that solve, and with the direct gradient."""
        return self._counted.evaluations - self.nfe


def solve(field: nn.Module, x: Tensor, method: Method) -> Solution:
    """Integrate dx/dt = field(t, x) from t = 0 to t = 1 (the paper's Equation 1).

    The whole batch shares its steps, because the error norm is taken over all of x. Only parameters that `field` owns
    get a gradient: whatever the field uses must be its submodule.

    Args:
        field: the vector field, called as (t, x) with t a scalar tensor. It may be called with t > 1.
        x: initial state, any shape; float32 or float64, also under autocast.

    Raises:
        SolveError: the step size underflows, a state is not finite, or max_steps is exceeded. The backward pass
            raises it too.
    """
    counted = CountedField(field, x.device)
    with torch.autocast(x.device.type, enabled=False):
        if method.implementation == "native":
            return Solution(_solve_natively(counted, x, method), counted)
        return Solution(_solve_with_torchdiffeq(counted, x, method), counted)


def _solve_natively(field: CountedField, x: Tensor, method: Method) -> Tensor:
    tolerance = Tolerance(method.rtol, method.atol, method.max_steps)
    problem = Problem(field, tolerance, method.adjoint_norm == "seminorm")
    if not torch.is_grad_enabled():
        return integrate(problem, x)
    end: Tensor
    if method.gradient == "adjoint":
        end = AdjointSolve.apply(problem, x, *problem.parameters())
    else:
        inputs = Inputs(problem)
        end = DirectSolve.apply(problem, inputs, x, *inputs.sources, *inputs.others)
    return end


def _solve_with_torchdiffeq(field: nn.Module, x: Tensor, method: Method) -> Tensor:
    # Imported here: it imports SciPy, half a second that the native solver does not need.
    from torchdiffeq import odeint, odeint_adjoint

    times = torch.tensor([0.0, 1.0], device=x.device)
    options = {"max_num_steps": method.max_steps}
    common = {"rtol": method.rtol, "atol": method.atol, "method": method.solver, "options": options}
    try:
        if method.gradient == "direct":
            states: Tensor = odeint(field, x, times, **common)
        else:
            adjoint = {**options, "norm": "seminorm"} if method.adjoint_norm == "seminorm" else options
            states = odeint_adjoint(field, x, times, **common, adjoint_options=adjoint)
    except AssertionError as error:
        raise _as_solve_error(error) from None
    return states[-1]


def backpropagate(loss: Tensor) -> None:
    """Call `loss.backward()`, with torchdiffeq's failures as SolveError.

    Raises:
        SolveError: an adjoint solve gave up.
    """
    try:
        loss.backward()
    except AssertionError as error:
        raise _as_solve_error(error) from None


def _as_solve_error(error: AssertionError) -> SolveError:
    """Convert an assertion of torchdiffeq about step size, state or number of steps; raise any other again."""
    known = ("underflow in dt", "non-finite values in state", "max_num_steps exceeded")
    text = str(error).splitlines()[0] if str(error) else ""
    if not text.startswith(known):
        raise error
    return SolveError("the state is not finite" if text.startswith(known[1]) else text)
