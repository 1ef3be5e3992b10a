"""The two gradients of a dopri5 solve: the adjoint ODE, and backpropagation through its accepted steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.ode.dopri5 import NODES, STAGES, Integration, Path, Tolerance, tabulate


@dataclass(frozen=True)
class Problem:
    """dx/dt = field(t, x) on [0, 1] with the parameters that get a gradient."""

    field: nn.Module
    parameters: Sequence[Tensor]
    tolerance: Tolerance
    seminorm: bool


def _flow(problem: Problem, shape: torch.Size, t: Tensor, state: Tensor, out: Tensor) -> None:
    out.copy_(problem.field(t, state.view(shape)).reshape(-1))


def integrate(problem: Problem, x: Tensor) -> Tensor:
    """The state at t = 1, no gradient."""
    run = Integration(lambda t, y, out, _: _flow(problem, x.shape, t, y, out), problem.tolerance, [x.numel()])
    return run.run(x.reshape(-1), 0.0, 1.0).state.view_as(x)


class AdjointSolve(torch.autograd.Function):
    """Solve forward without a graph; backward, solve state, adjoint and parameter gradients from t = 1 to 0.

    The state is solved again backwards, as in torchdiffeq; the error norm is the largest root mean square of the
    state, its adjoint, the gradient of t (which torchdiffeq counts, though nobody asks for it) and, without `seminorm`,
    each parameter's gradient.
    """

    @staticmethod
    def forward(ctx: Any, problem: Problem, x: Tensor, *parameters: Tensor) -> Tensor:
        """See the class."""
        ctx.problem = problem
        end = integrate(problem, x)
        ctx.save_for_backward(end)
        return end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """See the class."""
        problem: Problem = ctx.problem
        (end,) = ctx.saved_tensors
        count, parameters = end.numel(), list(problem.parameters)

        def derivative(s: Tensor, state: Tensor, out: Tensor, quadrature: Tensor | None) -> None:
            # In s = -t: y' = -f, a' = a df/dy; in the quadrature a df/dt, and a df/dtheta for the parameters.
            y, t = state[:count].view_as(end).detach().requires_grad_(), (-s).requires_grad_()
            with torch.enable_grad():
                value = problem.field(t, y)
            wanted = [t, *parameters] if quadrature is not None else []
            adjoint = state[count:].view_as(value).to(value.dtype)
            vjp = torch.autograd.grad(value, (y, *wanted), adjoint, allow_unused=True)
            torch.neg(value.detach().reshape(-1), out=out[:count])
            _write(vjp[:1], [y], out[count:])
            if quadrature is not None:
                _write(vjp[1:], wanted, quadrature)

        sizes = [1, *(parameter.numel() for parameter in parameters)]
        judged = sizes[:1] if problem.seminorm else sizes
        run = Integration(derivative, problem.tolerance, [count, count], sum(sizes), judged)
        path = run.run(torch.cat([end.reshape(-1), gradient.reshape(-1)]), -1.0, 0.0)
        assert path.quadrature is not None
        parts = path.quadrature[1:].split(sizes[1:])
        gradients = [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
        return None, path.state[count:].view_as(end), *gradients


def _write(gradients: Sequence[Tensor | None], like: Sequence[Tensor], out: Tensor) -> None:
    """Gradients side by side in `out`; one that is missing is zero."""
    start = 0
    for gradient, tensor in zip(gradients, like, strict=True):
        part = out[start : start + tensor.numel()]
        if gradient is None:
            part.zero_()
        else:
            part.copy_(gradient.reshape(-1))
        start += tensor.numel()


class DirectSolve(torch.autograd.Function):
    """Solve forward with a graph per evaluation; backward, go back through the accepted steps.

    Differs from automatic differentiation of torchdiffeq: the step sizes are constants. There the first one carries a
    gradient, of the order of the solver's error.
    """

    @staticmethod
    def forward(ctx: Any, problem: Problem, x: Tensor, *parameters: Tensor) -> Tensor:
        """See the class."""
        tape: list[tuple[Tensor, Tensor]] = []

        def derivative(t: Tensor, state: Tensor, out: Tensor, _: Tensor | None) -> None:
            y = state.view_as(x).detach().requires_grad_()
            with torch.enable_grad():
                value = problem.field(t, y)
            tape.append((y, value))
            out.copy_(value.detach().reshape(-1))

        run = Integration(derivative, problem.tolerance, [x.numel()])
        path = run.run(x.reshape(-1), 0.0, 1.0)
        ctx.problem, ctx.path, ctx.tape = problem, path, _keep_accepted(tape, path)
        return path.state.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """See the class."""
        problem, path, tape = ctx.problem, ctx.path, ctx.tape
        if tape is None:
            raise RuntimeError("backward through this solve a second time: its graph is freed after the first")
        ctx.tape = None
        parameters = list(problem.parameters)
        totals = [torch.zeros_like(parameter) for parameter in parameters]

        def pull(evaluation: tuple[Tensor, Tensor], gradient: Tensor) -> Tensor:
            """Gradient of an evaluation's input [N]; those of the parameters are added to the totals."""
            y, value = evaluation
            vjp = torch.autograd.grad(
                value, (y, *parameters), gradient.view_as(value).to(value.dtype), allow_unused=True
            )
            for total, part in zip(totals, vjp[1:], strict=True):
                if part is not None:
                    total += part
            return vjp[0].reshape(-1) if vjp[0] is not None else torch.zeros_like(gradient)

        g_state = gradient.reshape(-1).contiguous()
        weights = g_state.new_tensor([path.steps[-1].size * weight for weight in path.interpolation])
        g_stages = torch.outer(weights, g_state)
        g_result = torch.zeros_like(g_state)  # of the state at the end of the step, which the last one does not return
        for step in reversed(path.steps):
            for index in range(len(NODES), 0, -1):
                g_input = pull(tape.pop(), g_stages[index])
                if index == len(NODES):
                    g_input = g_input + g_result
                g_state = g_state + g_input
                weights = tabulate(STAGES[index - 1], g_input.dtype, g_input.device)
                g_stages[:index].addr_(weights, g_input, alpha=step.size)
            g_result, last = g_state, g_stages[0].clone()
            g_state = torch.zeros_like(g_state)
            g_stages = torch.zeros_like(g_stages)
            g_stages[-1] = last
        return None, (g_result + pull(tape.pop(), g_stages[-1])).view(gradient.shape), *totals


def _keep_accepted(tape: list[tuple[Tensor, Tensor]], path: Path) -> list[tuple[Tensor, Tensor]]:
    """Evaluations of the start and of the accepted steps' stages; the graphs of all others are dropped."""
    kept = tape[:1]  # then comes the one that the first step size needs
    for step in path.steps:
        first = 2 + step.index * len(NODES)
        kept += tape[first : first + len(NODES)]
    return kept
