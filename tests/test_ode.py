"""The solver: against a flow in closed form, and step for step against torchdiffeq."""

import math
from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
from problems import Rotation
from torch import Tensor, nn

from pipeline.ode.dopri5 import Integration, Tolerance, interpolate
from pipeline.ode.solve import Method, SolveError, backpropagate, solve

X = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
METHOD = Method("dopri5", "native", 1e-3, 1e-3, 1000, "adjoint", "mixed")
CHOICES = [
    replace(METHOD, implementation=implementation, gradient=gradient)  # type: ignore[arg-type]
    for implementation in ("native", "torchdiffeq")
    for gradient in ("adjoint", "direct")
]


def exact(method: Method, tolerance: float) -> Method:
    return replace(method, rtol=tolerance, atol=tolerance)


def turn(x: Tensor, angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.stack([c * x[..., 0] - s * x[..., 1], s * x[..., 0] + c * x[..., 1]], -1)


class Pendulum(nn.Module):
    """A damped pendulum that is pushed: time, state and parameters all matter, and nothing is linear."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.damping = nn.Parameter(torch.tensor(0.3, dtype=dtype))
        self.push = nn.Parameter(torch.tensor([1.5, 7.0], dtype=dtype))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        angle, speed = x.unbind(-1)
        force = self.push[0] * torch.sin(self.push[1] * t)
        return torch.stack([speed, force - self.damping * speed - 20 * torch.sin(angle)], -1)


@pytest.mark.parametrize("method", CHOICES, ids=str)
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_the_solution_is_within_tolerance_of_the_rotation(method: Method, tolerance: float):
    solution = solve(Rotation(2.0), X, exact(method, tolerance))
    assert (solution.x - turn(X, 2.0)).abs().max() < 10 * tolerance
    assert solution.nfe % 6 == 2  # two to start, six an attempted step


def test_the_error_falls_with_the_fifth_power_of_the_step():
    """One accepted step of each size: the local error of a method of order 5 is of order 6."""
    errors = []
    for size in (0.4, 0.2, 0.1):
        run = Integration(lambda t, y, out, _: out.copy_(-y) and None, Tolerance(1.0, 1.0, 1), [1])
        state, k = torch.ones(1, dtype=torch.float64), torch.zeros(7, 1, dtype=torch.float64)
        k[0] = -state
        errors.append(abs(run._attempt(0.0, size, state, k, None).item() - math.exp(-size)))
    orders = [math.log2(first / second) for first, second in pairwise(errors)]
    assert orders == pytest.approx([6, 6], abs=0.2)


def test_the_interpolant_is_exact_at_both_ends_and_of_fourth_order_between():
    assert interpolate(0.0) == pytest.approx([0.0] * 7)
    assert interpolate(1.0) == pytest.approx([35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0])
    errors = []
    for size in (0.4, 0.2):
        run = Integration(lambda t, y, out, _: out.copy_(-y) and None, Tolerance(1.0, 1.0, 1), [1])
        state, k = torch.ones(1, dtype=torch.float64), torch.zeros(7, 1, dtype=torch.float64)
        k[0] = -state
        run._attempt(0.0, size, state, k, None)
        middle = 1 + size * torch.dot(k[:, 0], torch.tensor(interpolate(0.4), dtype=torch.float64)).item()
        errors.append(abs(middle - math.exp(-0.4 * size)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(5, abs=0.4)


@pytest.mark.parametrize("method", CHOICES, ids=str)
def test_gradients_are_those_of_the_rotation(method: Method):
    field, x = Rotation(2.0), X.clone().requires_grad_()
    backpropagate(solve(field, x, exact(method, 1e-9)).x[0, 0])  # x(1)[0, 0] = cos(speed)
    assert field.speed.grad is not None
    assert field.speed.grad.item() == pytest.approx(-math.sin(2.0), abs=1e-6)
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0], torch.tensor([math.cos(2.0), -math.sin(2.0)]).double(), atol=1e-6, rtol=0)


def trace(implementation: str, method: Method, start: Tensor) -> tuple[list[float], Tensor, int, int, Tensor]:
    """Times at which f was called, the end state, NFE-F, NFE-B, gradients."""
    times: list[float] = []

    class Traced(Pendulum):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            times.append(t.item())
            return super().forward(t, x)

    field, x = Traced(start.dtype), start.clone().requires_grad_()
    solution = solve(field, x, replace(method, implementation=implementation))  # type: ignore[arg-type]
    backpropagate(solution.x.pow(2).sum())
    gradients = [value.grad.flatten() for value in (x, *field.parameters()) if value.grad is not None]
    return times, solution.x.detach(), solution.nfe, solution.nfe_backward, torch.cat(gradients)


@pytest.mark.parametrize("adjoint_norm", ["mixed", "seminorm"])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
def test_step_for_step_as_torchdiffeq(adjoint_norm: str, tolerance: float, gradient: str):
    """The same times of evaluation forwards and backwards, so the same steps accepted and rejected, the same states."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, 2, dtype=torch.float64, generator=generator) * 2
    method = replace(exact(METHOD, tolerance), gradient=gradient, adjoint_norm=adjoint_norm)  # type: ignore[arg-type]
    ours, theirs = (trace(implementation, method, start) for implementation in ("native", "torchdiffeq"))
    assert len(theirs[0]) > 20 or tolerance > 1e-3
    assert ours[0] == pytest.approx(theirs[0], abs=1e-8)
    torch.testing.assert_close(ours[1], theirs[1], atol=1e-10, rtol=0)
    assert ours[2:4] == theirs[2:4]
    # The direct gradient differs by the gradient that torchdiffeq sends through the first step's size.
    tight = {"adjoint": 1e-9, "direct": 30 * tolerance}[gradient]
    assert (ours[4] - theirs[4]).norm() / theirs[4].norm() < tight


def test_rejected_steps_are_met_in_these_tests():
    """A kink makes the error jump, so that the step size falls; both solvers agree on where."""

    class Kink(nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return torch.where(t < 0.31, torch.ones_like(x), -40 * x)

    start = torch.ones(3, dtype=torch.float64)
    ours, theirs = (
        solve(Kink(), start, replace(METHOD, implementation=implementation))  # type: ignore[arg-type]
        for implementation in ("native", "torchdiffeq")
    )
    assert ours.nfe == theirs.nfe > 50
    torch.testing.assert_close(ours.x, theirs.x, atol=1e-11, rtol=0)


def test_in_float32_the_states_agree_within_1e_5():
    """Of the largest state: torchdiffeq's interpolant cancels numbers sixteen times as large."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(64, 2, generator=generator)
    ours, theirs = (trace(implementation, METHOD, start) for implementation in ("native", "torchdiffeq"))
    assert ours[2:4] == theirs[2:4]
    assert (ours[1] - theirs[1]).abs().max() < 1e-5 * theirs[1].abs().max()


def test_a_smaller_tolerance_costs_more_evaluations():
    costs = [solve(Rotation(2.0), X, exact(METHOD, tolerance)).nfe for tolerance in (1e-3, 1e-6, 1e-9)]
    assert costs[0] < costs[1] < costs[2]


def test_backward_evaluations_are_counted_apart_and_the_direct_gradient_has_none():
    for gradient in ("adjoint", "direct"):
        x = X.clone().requires_grad_()
        solution = solve(Rotation(2.0), x, replace(METHOD, gradient=gradient))  # type: ignore[arg-type]
        forward = solution.nfe
        assert solution.nfe_backward == 0
        backpropagate(solution.x.sum())
        assert solution.nfe == forward
        assert (solution.nfe_backward % 6 == 2) if gradient == "adjoint" else (solution.nfe_backward == 0)


@pytest.mark.parametrize("solver", ["bosh3", "dopri8"])
def test_other_methods_of_torchdiffeq_solve_it_too(solver: str):
    method = replace(exact(METHOD, 1e-6), solver=solver, implementation="torchdiffeq")  # type: ignore[arg-type]
    assert (solve(Rotation(2.0), X, method).x - turn(X, 2.0)).abs().max() < 1e-3


class Exploding(nn.Module):
    """dx/dt = x^2 with x(0) = 2, which is infinite at t = 1/2."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return x * x


class Undefined(nn.Module):
    """Turns NaN at t = 1/2."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.sqrt(0.5 - t) * x


@pytest.mark.parametrize("implementation", ["native", "torchdiffeq"])
@pytest.mark.parametrize(
    ("field", "start", "says"),
    [
        (Exploding(), 2.0, "underflow"),
        (Exploding(), float("nan"), "not finite|underflow"),
        (Undefined(), 1.0, "not finite|underflow"),
    ],
)
def test_a_solve_that_cannot_go_on_says_so(implementation: str, field: nn.Module, start: float, says: str):
    method = replace(METHOD, implementation=implementation)  # type: ignore[arg-type]
    with pytest.raises(SolveError, match=says):
        solve(field, torch.tensor([start]), method)


class Ends(nn.Module):
    """A derivative that takes a value from a time on, and is `slope` before."""

    def __init__(self, value: float, since: float, slope: float = 1.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.value, self.since = value, since

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.where(t >= self.since, torch.full_like(x, self.value), self.slope.to(x.dtype) * torch.ones_like(x))


@pytest.mark.parametrize("value", [math.inf, math.nan, 3e38])
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_what_is_not_finite_is_a_failed_solve_and_never_a_state(value: float, slope: float):
    """In the derivative at the start, in the trial for the first step, in a step, in the state."""
    for since, start in product([0.0, 1e-9, 1e-3, 0.5, 0.999999], [0.0, 1.0, 1e30, math.inf, math.nan]):
        try:
            end = solve(Ends(value, since, slope), torch.full((3,), start), METHOD).x
        except SolveError:
            continue
        assert end.isfinite().all(), (since, start)


@pytest.mark.parametrize("implementation", ["native", "torchdiffeq"])
def test_an_infinite_derivative_at_the_start_has_its_reason(implementation: str):
    with pytest.raises(SolveError, match=r"derivative is not finite at t = 0$|underflow in dt"):
        solve(Ends(math.inf, 0.0), torch.ones(3), replace(METHOD, implementation=implementation))  # type: ignore[arg-type]


@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
def test_a_trial_beyond_the_end_may_be_undefined(gradient: str):
    """The first step's trial reaches t = 10, and -9 backwards; what it finds there decides nothing."""

    class Beyond(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.speed = nn.Parameter(torch.tensor(1.0))

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return self.speed * torch.where(t.abs() < 6, torch.ones_like(x), math.nan)

    found = []
    for implementation in ("native", "torchdiffeq"):
        method = replace(METHOD, implementation=implementation, gradient=gradient, adjoint_norm="seminorm")  # type: ignore[arg-type]
        field, x = Beyond(), torch.full((3,), 1e3, requires_grad=True)
        solution = solve(field, x, method)
        backpropagate(solution.x.sum())
        assert field.speed.grad is not None
        found.append((solution.nfe, solution.nfe_backward, *solution.x.tolist(), field.speed.grad.item()))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][-1] == pytest.approx(3)


@pytest.mark.parametrize("implementation", ["native", "torchdiffeq"])
@pytest.mark.parametrize("gradient", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_ends_the_adjoint_solve(implementation: str, gradient: float):
    method = replace(METHOD, implementation=implementation)  # type: ignore[arg-type]
    solution = solve(Ends(1.0, 2.0), torch.ones(3, requires_grad=True), method)
    with pytest.raises(SolveError, match=r"finite|underflow in dt"):
        backpropagate((solution.x * gradient).sum())


@pytest.mark.parametrize("implementation", ["native", "torchdiffeq"])
@pytest.mark.parametrize("gradient", ["adjoint", "direct"])
def test_too_many_steps_are_refused(implementation: str, gradient: str):
    method = replace(exact(METHOD, 1e-9), implementation=implementation, gradient=gradient, max_steps=5)  # type: ignore[arg-type]
    with pytest.raises(SolveError, match="max"):
        solve(Rotation(9.0), X.clone().requires_grad_(), method)


@pytest.mark.parametrize("implementation", ["native", "torchdiffeq"])
def test_an_adjoint_solve_that_cannot_go_on_says_so(implementation: str):
    """Forward easy, backward not: dx/dt = -60 x shrinks to nothing, and the way back is steep."""

    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rate = nn.Parameter(torch.tensor(-60.0))

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return self.rate * x

    method = replace(METHOD, implementation=implementation, max_steps=60)  # type: ignore[arg-type]
    x = torch.ones(4, requires_grad=True)
    solution = solve(Steep(), x, method)
    with pytest.raises(SolveError):
        backpropagate((solution.x * 1e30).sum())


def test_an_assertion_of_ours_is_not_taken_for_a_failed_solve():
    class Wrong(nn.Module):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            raise AssertionError("a mistake")

    with pytest.raises(AssertionError, match="a mistake"):
        solve(Wrong(), X, replace(METHOD, implementation="torchdiffeq"))


def test_a_graph_of_a_direct_solve_is_used_once():
    x = X.clone().requires_grad_()
    end = solve(Rotation(2.0), x, replace(METHOD, gradient="direct")).x
    end.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a second time"):
        end.sum().backward()


@pytest.mark.parametrize("method", CHOICES, ids=str)
def test_the_state_stays_in_float32_under_autocast_forward_and_backward(method: Method):
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
        solution = solve(Field(), x, exact(method, 1e-2))
    backpropagate(solution.x.sum())
    assert set(seen) == {(torch.float32, torch.bfloat16)}
    assert solution.x.dtype == torch.float32
