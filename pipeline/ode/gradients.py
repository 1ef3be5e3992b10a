"""Gradients of a dopri5 solve: by the adjoint ODE, or by backpropagation through the accepted steps.

Sources: Chen et al. 2018, algorithm 1 (adjoint); Kidger et al. 2021 (seminorm); torchdiffeq 0.2.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.ode.dopri5 import NODES, STAGES, Integration, Path, Tolerance, tabulate
from pipeline.ode.field import CountedField, Derived


@dataclass(frozen=True)
class Problem:
    """The initial value problem dx/dt = field(t, x) on [0, 1], and how to solve it."""

    field: CountedField
    tolerance: Tolerance
    seminorm: bool

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that need a gradient."""
        return [parameter for parameter in self.field.parameters() if parameter.requires_grad]


class Inputs:
    """The tensors to differentiate the field by: derived tensors, and the parameters that are used directly.

    `sources` are the derived tensors with their graph, `leaves` the same values cut off from it, `others` the
    parameters from which nothing is derived.
    """

    def __init__(self, problem: Problem) -> None:
        self.parameters = problem.parameters()
        known = {id(parameter) for parameter in self.parameters}
        with torch.enable_grad():
            self.derived: list[Derived] = [part for part in problem.field.derive() if id(part.parameter) in known]
        consumed = {id(part.parameter) for part in self.derived}
        self.others = [parameter for parameter in self.parameters if id(parameter) not in consumed]
        # The field sees the leaves; gradients flow from them to the sources once, after the solve.
        self.sources = [tensor for part in self.derived for tensor in part.tensors]
        self.leaves = [tensor.detach().requires_grad_() for tensor in self.sources]

    def gather(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Turn gradients of [*leaves, *others] into gradients of the parameters, in the order of the parameters."""
        count = len(self.leaves)
        by_parameter = dict(zip(map(id, self.others), gradients[count:], strict=True))
        if self.derived:
            consumed = [part.parameter for part in self.derived]
            pulled = torch.autograd.grad(self.sources, consumed, gradients[:count], retain_graph=True)
            by_parameter |= dict(zip(map(id, consumed), pulled, strict=True))
        return [by_parameter[id(parameter)] for parameter in self.parameters]


def integrate(problem: Problem, x: Tensor) -> Tensor:
    """The state at t = 1, in the shape of x; without a graph."""

    def derivative(t: Tensor, state: Tensor, out: Tensor, _: Tensor | None) -> None:
        out.copy_(problem.field(t, state.view(x.shape)).reshape(-1))

    with torch.no_grad():
        tensors = [tensor for part in problem.field.derive() for tensor in part.tensors]
        with problem.field.using(tensors):
            run = Integration(derivative, problem.tolerance, [x.numel()])
            return run.run(x.reshape(-1), 0.0, 1.0).state.view_as(x)


class AdjointSolve(torch.autograd.Function):
    """Forward: solve without a graph. Backward: solve for state, adjoint and parameter gradients from t = 1 to 0.

    Only the end state is kept; the state is solved again backwards. The error norm is the largest root mean square
    over the state, its adjoint, the gradient of t and, without `seminorm`, each parameter's gradient. The gradient of t
    is not needed; it counts because torchdiffeq counts it.

    Source: Chen et al. 2018, equations 4 and 5; torchdiffeq 0.2.5, adjoint.py.
    """

    @staticmethod
    def forward(ctx: Any, problem: Problem, x: Tensor, *parameters: Tensor) -> Tensor:
        """See the class; `parameters` are the problem's."""
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
        count, inputs = end.numel(), Inputs(problem)
        wanted = [*inputs.leaves, *inputs.others]
        sizes = [tensor.numel() for tensor in wanted]

        def derivative(s: Tensor, state: Tensor, out: Tensor, quadrature: Tensor | None) -> None:
            # With s = -t: dy/ds = -f and da/ds = a df/dy. The quadrature sums a df/dt and a df/dtheta.
            y, t = state[:count].view_as(end).detach().requires_grad_(), (-s).requires_grad_()
            with torch.enable_grad():
                value = problem.field(t, y)
            by = [t, *wanted] if quadrature is not None else []
            adjoint = state[count:].view_as(value)
            vjp = torch.autograd.grad(value, (y, *by), adjoint, allow_unused=True, materialize_grads=True)
            torch.neg(value.detach().reshape(-1), out=out[:count])
            out[count:].copy_(vjp[0].reshape(-1))
            if quadrature is not None:
                torch.cat([part.reshape(-1) for part in vjp[1:]], out=quadrature)

        def split(quadrature: Tensor) -> list[Tensor]:
            """Gradients of the parameters."""
            parts = quadrature[1:].split(sizes)
            return inputs.gather([part.view_as(tensor) for part, tensor in zip(parts, wanted, strict=True)])

        def judge(quadrature: Tensor) -> Tensor:
            """The part of the quadrature that enters the error norm: gradient of t, then of the parameters."""
            parts = [] if problem.seminorm else split(quadrature)
            return torch.cat([quadrature[:1], *(part.reshape(-1) for part in parts)])

        with problem.field.using(inputs.leaves):
            judged = [1] if problem.seminorm else [1, *(parameter.numel() for parameter in inputs.parameters)]
            run = Integration(derivative, problem.tolerance, [count, count], 1 + sum(sizes), judge, judged)
            # State of the backward solve: y, then its adjoint [2N]; s runs from -1 to 0.
            path = run.run(torch.cat([end.reshape(-1), gradient.reshape(-1)]), -1.0, 0.0)
        assert path.quadrature is not None
        return None, path.state[count:].view_as(end), *split(path.quadrature)


class DirectSolve(torch.autograd.Function):
    """Forward: solve with one graph per evaluation. Backward: backpropagate through the accepted steps.

    Differs: step sizes are constants here. Under automatic differentiation of torchdiffeq, the first step size carries
    a gradient; it is of the order of the solver's error.
    """

    @staticmethod
    def forward(ctx: Any, problem: Problem, inputs: Inputs, x: Tensor, *sources: Tensor) -> Tensor:
        """See the class; `sources` are the inputs' sources and others."""
        tape: list[tuple[Tensor, Tensor]] = []

        def derivative(t: Tensor, state: Tensor, out: Tensor, _: Tensor | None) -> None:
            y = state.view_as(x).detach().requires_grad_()
            with torch.enable_grad():
                value = problem.field(t, y)
            tape.append((y, value))
            out.copy_(value.detach().reshape(-1))

        with problem.field.using(inputs.leaves):
            path = Integration(derivative, problem.tolerance, [x.numel()]).run(x.reshape(-1), 0.0, 1.0)
        ctx.wanted, ctx.path, ctx.tape = [*inputs.leaves, *inputs.others], path, _keep_accepted(tape, path)
        return path.state.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """See the class."""
        wanted, path, tape = ctx.wanted, ctx.path, ctx.tape
        if tape is None:
            raise RuntimeError("backward through this solve a second time: its graph is freed after the first")
        ctx.tape = None
        totals: list[Tensor] = []

        def pull(evaluation: tuple[Tensor, Tensor], gradient: Tensor) -> Tensor:
            """Gradient of an evaluation's input, [N]; adds the parameters' gradients to the totals."""
            y, value = evaluation
            vjp = torch.autograd.grad(
                value, (y, *wanted), gradient.view_as(value), allow_unused=True, materialize_grads=True
            )
            if totals:
                torch._foreach_add_(totals, list(vjp[1:]))
            else:
                totals.extend(vjp[1:])
            return vjp[0].reshape(-1)

        g_state = gradient.reshape(-1).contiguous()
        weights = g_state.new_tensor([path.steps[-1].size * weight for weight in path.interpolation])
        g_stages = torch.outer(weights, g_state)  # [7, N]
        # The solve returns an interpolated state, not the end of the last step: its gradient starts at zero.
        g_result = torch.zeros_like(g_state)
        # Each step maps stage 0 and the state at its start to stages 1..6 and the state at its end; walk it backwards.
        for step in reversed(path.steps):
            for index in range(len(NODES), 0, -1):
                g_input = pull(tape.pop(), g_stages[index])
                if index == len(NODES):  # the input of the last stage is the result of the step
                    g_input = g_input + g_result
                g_state = g_state + g_input
                # The input was state + size * (weights of the earlier stages): a rank-1 update of their gradients.
                weights = tabulate(STAGES[index - 1], g_input.dtype, g_input.device)
                g_stages[:index].addr_(weights, g_input, alpha=step.size)
            # Stage 0 is the last stage of the step before, so its gradient moves there.
            g_result, last = g_state, g_stages[0].clone()
            g_state = torch.zeros_like(g_state)
            g_stages = torch.zeros_like(g_stages)
            g_stages[-1] = last
        g_start = (g_result + pull(tape.pop(), g_stages[-1])).view(gradient.shape)
        return None, None, g_start, *totals


def _keep_accepted(tape: list[tuple[Tensor, Tensor]], path: Path) -> list[tuple[Tensor, Tensor]]:
    """The evaluation at the start and those of the accepted steps; the other graphs are freed."""
    kept = tape[:1]  # the second evaluation only served the first step size
    for step in path.steps:
        first = 2 + step.index * len(NODES)  # six evaluations per attempt
        kept += tape[first : first + len(NODES)]
    return kept
