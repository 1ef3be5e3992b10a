"""Computes parts of a tape again: a site's way to its norm in float64, and what depends on the time alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from pipeline.audit.tape import Operation, Taint, Tape


def _widen_type(given: torch.dtype) -> torch.dtype:
    return torch.float64 if given.is_floating_point else given


def widen(value: Tensor) -> Tensor:
    """In float64, if it is a real number."""
    return value.double() if value.is_floating_point() else value


def _widen_operation(operation: Operation) -> Operation:
    """The same operation, with float64 wherever it names a type."""
    args, kwargs = tree_map_only(torch.dtype, _widen_type, (operation.args, operation.kwargs))
    return Operation(operation.index, operation.func, args, kwargs, operation.outputs, operation.path)


class Replay:
    """Operations that are run again in float64, from values that are held.

    Args:
        held: by id, what the operations take and do not compute.
    """

    def __init__(self, steps: Iterable[Operation], held: Mapping[int, Tensor]) -> None:
        self.steps = [_widen_operation(step) for step in steps]
        needed = {id for step in self.steps for id in step.inputs}
        self.held = {id: widen(value) for id, value in held.items() if id in needed}

    def run(self, given: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """All values, where some are given; what gives nothing else is not run."""
        values = {**self.held, **given}
        for step in self.steps:
            if not all(id in given for id in step.outputs):
                computed = step.run(values)
                values |= {id: value for id, value in zip(step.outputs, computed, strict=True) if id not in given}
        return values


def list_needed(steps: Sequence[Operation]) -> set[int]:
    """What operations take and do not compute."""
    made = {id for step in steps for id in step.outputs}
    return {id for step in steps for id in step.inputs} - made


class TimeGraph:
    """The operations of a tape that make some values of the time alone."""

    def __init__(self, tape: Tape, wanted: Iterable[int]) -> None:
        self.wanted = set(wanted)
        needed, steps = set(self.wanted), list[Operation]()
        for operation in reversed(tape.operations):
            if needed & set(operation.outputs) and any(tape.taint(id) is Taint.TIME for id in operation.outputs):
                steps.append(operation)
                needed |= set(operation.inputs)
        self.tape, self.steps = tape, steps[::-1]

    @property
    def constants(self) -> set[int]:
        """Ids of what it takes beside the time."""
        return list_needed(self.steps) - {self.tape.time}

    @property
    def is_random(self) -> bool:
        """Whether a step draws numbers."""
        tag = torch.Tag.nondeterministic_seeded
        return any(tag in getattr(step.func, "tags", ()) for step in self.steps)

    def run(self, time: Tensor, constants: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """The wanted values at a time, in the types that the network has them in."""
        values: dict[int, Any] = {**constants, self.tape.time: time}
        for step in self.steps:
            values |= zip(step.outputs, step.run(values), strict=True)
        return {id: values[id] for id in self.wanted}
