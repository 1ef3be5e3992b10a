"""Records the operations of a forward pass on a tape: below autograd, so that no function escapes."""

import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from pipeline.audit.tape import (
    Operation,
    Ref,
    Taint,
    Tape,
    Value,
    find_layout,
    find_written,
    list_outputs,
    list_written,
    name_function,
    overlap,
    write,
)

_FRESH = {
    "zero",
    "normal",
    "uniform",
    "bernoulli",
    "random",
    "exponential",
    "log_normal",
    "cauchy",
    "geometric",
    "fill",
    "copy",
}
"""In place, these make something of their further arguments alone."""
_READS = {"_local_scalar_dense", "equal", "is_nonzero", "allclose", "item"}


def _makes_new(func: Any) -> bool:
    """Whether only shape and type of a function's inputs matter: `zeros_like`, `new_empty`."""
    name = name_function(func)
    return name.startswith("new_") or name.endswith("_like")


class Recorder(TorchDispatchMode):
    """Puts each operation on a tape and keeps the values that are asked for.

    Args:
        inputs: tensors of the call, and what they are.
        keep: ids of the values to keep, as an earlier pass numbered them.
    """

    def __init__(self, inputs: Sequence[tuple[Tensor, Taint]], keep: Collection[int] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape, self.kept = Tape(), dict[int, Tensor]()
        self.modules = [""]
        self._keep = frozenset(keep)
        self._ids = WeakTensorKeyDictionary()
        self._storages: dict[int, list[Any]] = {}
        for tensor, taint in inputs:
            id = self._enter(tensor, taint)
            if taint is Taint.TIME:
                self.tape.time = id

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and record it."""
        kwargs = kwargs or {}
        named: tuple[Any, Any] = tree_map_only(Tensor, lambda tensor: Ref(self.find(tensor)), (tuple(args), kwargs))
        result = func(*args, **kwargs)
        taint = self._join_taints(func, named)
        if Taint.TIME in taint and name_function(func) in _READS:
            self.tape.reads.append(self.modules[-1])
        written = find_written(func, args, kwargs)
        if outputs := list_outputs(result, written):
            self._record(func, *named, outputs, taint)
        for tensor in written:
            self._spread(tensor)
        return result

    def find(self, tensor: Tensor) -> int:
        """The id of a tensor's present value; one that is not known yet is a constant."""
        id: int | None = self._ids.get(tensor)
        if id is None:
            id = self._enter(tensor, Taint.NONE)
            self.tape.constants[id] = tensor
        return id

    def _enter(self, tensor: Tensor, taint: Taint) -> int:
        """Number a tensor's value."""
        id = len(self.tape.values)
        self.tape.values.append(Value(taint, tuple(tensor.shape), tensor.is_floating_point()))
        if tensor not in self._ids:
            self._storages.setdefault(_find_storage(tensor), []).append(TensorWeakRef(tensor))
        self._ids[tensor] = id
        if id in self._keep:
            self.kept[id] = tensor.detach().clone()
        return id

    def _record(self, func: Any, args: Any, kwargs: Any, outputs: Sequence[Tensor], taint: Taint) -> None:
        ids = tuple(self._enter(tensor, taint) for tensor in outputs)
        self.tape.operations.append(Operation(len(self.tape.operations), func, args, kwargs, ids, self.modules[-1]))

    def _join_taints(self, func: Any, recorded: Any) -> Taint:
        ids = [leaf.id for leaf in tree_iter(recorded) if isinstance(leaf, Ref)]
        if _makes_new(func):
            return Taint.NONE
        if name_function(func) in _FRESH and any(place == 0 for place, _ in list_written(func)):
            ids = ids[1:]
        joined = Taint.NONE
        for id in ids:
            joined |= self.tape.taint(id)
        return joined

    def _spread(self, written: Tensor) -> None:
        """What shares memory with a tensor that was written to has another value now, too."""
        source, layout = self.find(written), find_layout(written)
        for tensor in self._list_sharing(written):
            own = find_layout(tensor)
            if own == layout:
                self._ids[tensor] = source
            elif tensor.dtype == written.dtype and overlap(own, layout):
                before = self.find(tensor)
                taint = self.tape.taint(before) | self.tape.taint(source)
                self._record(write, (Ref(before), Ref(source), own, layout), {}, [tensor], taint)

    def _list_sharing(self, written: Tensor) -> Iterator[Tensor]:
        """Other tensors on the tape with the same storage."""
        storage = _find_storage(written)
        alive = [(one, tensor) for one in self._storages.get(storage, []) if (tensor := one()) is not None]
        self._storages[storage] = [one for one, _ in alive]
        for _, tensor in alive:
            if tensor is not written and _find_storage(tensor) == storage:
                yield tensor


def _find_storage(tensor: Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse
        return -id(tensor)


@contextmanager
def _follow_modules(network: nn.Module, stack: list[str]) -> Iterator[None]:
    """Within, the stack's last entry names the submodule that runs."""

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: stack.append(name)

    def leave(*_: Any) -> None:
        stack.pop()

    handles = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name), prepend=True))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _pause_collection() -> Iterator[None]:
    """Within, no tensor of a reference cycle is freed: two passes must see the same ones."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def record_pass(
    network: nn.Module, call: Callable[[], Any], inputs: Sequence[tuple[Tensor, Taint]], keep: Collection[int] = ()
) -> tuple[Tape, dict[int, Tensor], list[Tensor]]:
    """Run a forward pass.

    Args:
        call: runs the network.
        inputs: the tensors that it takes, and what each is.
        keep: ids of values to keep.

    Returns:
        The tape, the kept values, and the tensors of the result.
    """
    recorder = Recorder(inputs, keep)
    with torch.no_grad(), _pause_collection(), _follow_modules(network, recorder.modules), recorder:
        result = call()
    outputs = [leaf for leaf in tree_iter(_open_records(result)) if isinstance(leaf, Tensor)]
    recorder.tape.results = [recorder.find(tensor) for tensor in outputs]
    return recorder.tape, recorder.kept, [tensor.detach() for tensor in outputs]


def _open_records(result: Any) -> Any:
    """A result with attributes, such as a dataclass, as a mapping."""
    if isinstance(result, Tensor | dict | list | tuple):
        return dict(result) if isinstance(result, dict) else result
    return vars(result) if hasattr(result, "__dict__") else result
