"""The tape: the ATen operations of one forward pass, and which of its inputs each tensor depends on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Flag
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_iter, tree_map_only


class Taint(Flag):
    """What a tensor depends on."""

    NONE = 0
    """Weights and constants alone."""
    TIME = 1
    DATA = 2


@dataclass(frozen=True)
class Ref:
    """Stands for a tensor in the arguments of an operation."""

    id: int


@dataclass(frozen=True)
class Value:
    """A tensor at a moment: an operation in place makes another value of the same tensor."""

    taint: Taint
    shape: tuple[int, ...]
    floating: bool


@dataclass(frozen=True)
class Operation:
    """One operation of the forward pass."""

    index: int
    func: Any
    """An `OpOverload`, or `write`."""
    args: tuple[Any, ...]
    """With a `Ref` for each tensor."""
    kwargs: dict[str, Any]
    outputs: tuple[int, ...]
    """Ids of the tensors that it gives, in order."""
    path: str
    """The module that was running, as in `named_modules`."""

    @property
    def inputs(self) -> tuple[int, ...]:
        """Ids of the tensors that it takes, in order."""
        return tuple(leaf.id for leaf in tree_iter((self.args, self.kwargs)) if isinstance(leaf, Ref))

    @property
    def name(self) -> str:
        """As ATen calls it, without overload and without the underscore of what works in place."""
        return name_function(self.func)

    def run(self, values: dict[int, Tensor]) -> list[Tensor]:
        """Its outputs; what it would change in place is copied first."""
        args, kwargs = tree_map_only(Ref, lambda ref: values[ref.id], (self.args, self.kwargs))
        if not isinstance(self.func, torch._ops.OpOverload):
            return [self.func(*args, **kwargs)]
        args, kwargs = _copy_written(self.func, args, kwargs)
        return list_outputs(self.func(*args, **kwargs), find_written(self.func, args, kwargs))


@dataclass
class Tape:
    """Operations and values; the ids of two passes agree if their operations do."""

    operations: list[Operation] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    time: int = -1
    """Id of the time input."""
    results: list[int] = field(default_factory=list)
    """Ids of what the network returned."""
    reads: list[str] = field(default_factory=list)
    """Modules that read a tensor of the time as a Python number."""
    constants: dict[int, Tensor] = field(default_factory=dict)
    """Tensors that no operation on the tape made: weights, buffers."""

    def taint(self, id: int) -> Taint:
        """What a value depends on."""
        return self.values[id].taint

    def list_consumers(self) -> dict[int, list[Operation]]:
        """By value: the operations that take it, in order."""
        found: dict[int, list[Operation]] = {}
        for operation in self.operations:
            for id in dict.fromkeys(operation.inputs):
                found.setdefault(id, []).append(operation)
        return found

    def list_makers(self) -> dict[int, Operation]:
        """By value: the operation that made it."""
        return {id: operation for operation in self.operations for id in operation.outputs}

    def describe(self) -> list[tuple[str, tuple[int, ...]]]:
        """What must be the same at every time: the operations and the values that they take."""
        return [(operation.name, operation.inputs) for operation in self.operations]


def name_function(func: Any) -> str:
    """`aten::add_.Tensor` is `add`."""
    name = func._schema.name.partition("::")[2] if isinstance(func, torch._ops.OpOverload) else func.__name__
    return str(name.rstrip("_") or name)


def list_written(func: Any) -> Iterator[tuple[int, str]]:
    """Place and name of the arguments that a function changes."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield place, argument.name


def find_written(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that a call changes."""
    given = [args[place] if place < len(args) else kwargs.get(name) for place, name in list_written(func)]
    return [leaf for leaf in tree_iter(given) if isinstance(leaf, Tensor)]


def list_outputs(result: Any, written: Sequence[Tensor]) -> list[Tensor]:
    """What a call returns, then what else it changed."""
    returned = [leaf for leaf in tree_iter(result) if isinstance(leaf, Tensor)]
    return [*returned, *(tensor for tensor in written if all(tensor is not one for one in returned))]


def _copy_written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    copied, named = list(args), dict(kwargs)
    for place, name in list_written(func):
        if place < len(copied):
            copied[place] = tree_map_only(Tensor, Tensor.clone, copied[place])
        elif name in named:
            named[name] = tree_map_only(Tensor, Tensor.clone, named[name])
    return tuple(copied), named


@dataclass(frozen=True)
class Layout:
    """Where the elements of a tensor are in its storage."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def view(self, flat: Tensor) -> Tensor:
        """The tensor within a storage."""
        return flat.as_strided(self.size, self.stride, self.offset)

    @property
    def end(self) -> int:
        """The storage's least length."""
        steps = [(size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True)]
        return 0 if 0 in self.size else self.offset + sum(steps) + 1


def find_layout(tensor: Tensor) -> Layout:
    """The layout of a tensor."""
    return Layout(tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()))


def overlap(one: Layout, other: Layout) -> bool:
    """Whether two tensors of one storage have an element in common."""
    marks = torch.zeros(max(one.end, other.end), dtype=torch.bool)
    one.view(marks).fill_(True)
    return bool(other.view(marks).any())


def write(whole: Tensor, part: Tensor, of: Layout, within: Layout) -> Tensor:
    """What a tensor is after another one, which shares its storage, was written to.

    Args:
        of: the layout of `whole`.
        within: that of `part`.
    """
    flat = whole.new_empty(max(of.end, within.end))
    of.view(flat).copy_(whole)
    within.view(flat).copy_(part)
    return of.view(flat).clone()
