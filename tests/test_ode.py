"""The solver against a flow in closed form."""

import math

import pytest
import torch
from problems import Rotation
from torch import Tensor, nn

from pipeline.ode.solve import SolveError, solve

X = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)


def turn(x: Tensor, angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.stack([c * x[..., 0] - s * x[..., 1], s * x[..., 0] + c * x[..., 1]], -1)


@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_the_solution_is_within_tolerance_of_the_rotation(gradient, tolerance):
    solution = solve(Rotation(2.0), X, "dopri5", tolerance, tolerance, gradient)
    assert (solution.x - turn(X, 2.0)).abs().max() < 10 * tolerance
    assert solution.nfe % 6 == 2  # two to start, six an attempted step


def test_a_smaller_tolerance_costs_more_evaluations():
    costs = [solve(Rotation(2.0), X, "dopri5", tol, tol, "direct").nfe for tol in (1e-3, 1e-6, 1e-9)]
    assert costs[0] < costs[1] < costs[2]


@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
def test_gradients_are_those_of_the_rotation(gradient):
    field, x = Rotation(2.0), X.clone().requires_grad_()
    solve(field, x, "dopri5", 1e-9, 1e-9, gradient).x[0, 0].backward()  # x(1)[0, 0] = cos(speed)
    assert field.speed.grad is not None
    assert field.speed.grad.item() == pytest.approx(-math.sin(2.0), abs=1e-6)
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0], torch.tensor([math.cos(2.0), -math.sin(2.0)]).double(), atol=1e-6, rtol=0)


class Exploding(nn.Module):
    """dx/dt = x^2 with x(0) = 2, which is infinite at t = 1/2."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return x * x


@pytest.mark.parametrize("start", [2.0, float("nan")])
def test_a_solve_that_cannot_go_on_says_so(start: float):
    with pytest.raises(SolveError, match="gave up after"):
        solve(Exploding(), torch.tensor([start]), "dopri5", 1e-3, 1e-3, "direct")


def test_the_state_stays_in_float32_under_autocast_forward_and_backward():
    seen = []

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            y = self.linear(x)
            seen.append((x.dtype, y.dtype))
            return y

    x = torch.randn(3, 2, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        solution = solve(Field(), x, "dopri5", 1e-2, 1e-2, "adjoint")
    solution.x.sum().backward()
    assert set(seen) == {(torch.float32, torch.bfloat16)}
    assert solution.x.dtype == torch.float32
