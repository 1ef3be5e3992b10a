"""A copy of the network under audit, ready to be run at any time: the given one is never touched."""

import copy
import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pipeline.audit.call import FORMS, Call, make_time
from pipeline.audit.recorder import record_pass
from pipeline.audit.tape import Taint, Tape
from pipeline.schema.base import SpecError

_SEED = 0


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def keep_randomness() -> Iterator[None]:
    """Within, the generators of torch, NumPy and Python may be used; they are put back."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def keep_state(network: nn.Module) -> Iterator[None]:
    """Within, a `forward` that was put in place of the class's may run this network in place of its copy.

    Its buffers and modes are put back.
    """
    modules = list(network.modules())
    modes = [module.training for module in modules]
    buffers = [(one, name, given, given.clone()) for one in modules for name, given in one.named_buffers(recurse=False)]
    try:
        yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
        for module, name, given, values in buffers:
            module._buffers[name] = given
            if not torch.equal(given, values):
                given.copy_(values)


def unwrap(module: Any) -> nn.Module:
    """The network itself, of one that torch.compile or a parallel wrapper wraps.

    Raises:
        SpecError: it is no network of Python, or has no numbers yet.
    """
    module = getattr(module, "_orig_mod", module)
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    if not isinstance(module, nn.Module):
        raise SpecError(f"a {type(module).__name__} is no torch.nn.Module: wrap what is to be audited in one")
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise SpecError("TorchScript cannot be followed: give the module that was scripted or traced")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta or is_lazy(tensor):
            raise SpecError(f"{name} has no values (meta device, or not initialised): load the weights first")
    return module


def copy_network(network: nn.Module, double: bool) -> nn.Module:
    """A copy that runs as Python.

    Args:
        double: with its real numbers in float64.

    Raises:
        SpecError: it cannot be copied.
    """
    # What the last pass left, such as attention maps, has a history of gradients, which deepcopy refuses.
    left = [value for module in network.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    known = {id(value): value.detach().clone() for value in left if not value.is_leaf}
    try:
        copied = copy.deepcopy(network, known)
    except Exception as error:
        raise SpecError(f"{type(network).__name__} cannot be copied: {first_line(error)}") from None
    for module in list(copied.modules()):
        if module.__dict__.get("_compiled_call_impl") is not None:
            module._compiled_call_impl = None
        for name, child in module.named_children():
            if hasattr(child, "_orig_mod"):
                setattr(module, name, child._orig_mod)
    return copied.double() if double else copied


@dataclass(frozen=True)
class Subject:
    """A network and how it is called."""

    network: nn.Module
    call: Call
    example: Any
    """Of the time: a tensor, or a key of `FORMS`."""
    buffers: dict[str, Tensor]
    """At first; training mode changes some."""

    @property
    def batch(self) -> int:
        """How many images."""
        return next(len(tensor) for name in self.call.data for tensor in self.call.list_tensors(name) if tensor.ndim)

    @property
    def like(self) -> Tensor:
        """A tensor of the data, for type and device."""
        found = [tensor for name in self.call.data for tensor in self.call.list_tensors(name)]
        return next((tensor for tensor in found if tensor.is_floating_point()), found[0])

    @property
    def dtype(self) -> torch.dtype:
        """Of the data; of the weights where the data are whole numbers."""
        if self.like.is_floating_point():
            return self.like.dtype
        return next((one.dtype for one in self.network.parameters()), torch.get_default_dtype())

    def make_time(self, t: float) -> Tensor:
        """A time as the network takes it."""
        return make_time(self.example, t, self.batch, self.dtype, self.like.device)

    def restore(self) -> None:
        """Begin as the pass before did: the same random numbers, the same buffers."""
        torch.manual_seed(_SEED)
        random.seed(_SEED)
        np.random.seed(_SEED)
        with torch.no_grad():
            for name, buffer in self.network.named_buffers():
                buffer.copy_(self.buffers[name])

    def record(self, t: float, keep: Collection[int] = ()) -> tuple[Tape, dict[int, Tensor], list[Tensor]]:
        """Run the network at a time; see `record_pass`."""
        time = self.make_time(t)
        call = self.call.map(torch.clone).put(time)
        data = [(tensor, Taint.DATA) for name in call.data for tensor in call.list_tensors(name)]
        self.restore()
        return record_pass(self.network, lambda: call.run(self.network), [(time, Taint.TIME), *data], keep)


def _cast(call: Call) -> Call:
    return call.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


@dataclass(frozen=True)
class Prepared:
    """A subject, its first pass, and what to know about it."""

    subject: Subject
    tape: Tape
    outputs: list[Tensor]
    notes: list[str]


def _check_data(call: Call) -> None:
    tensors = [tensor for name in call.data for tensor in call.list_tensors(name)]
    if any(tensor.is_meta for tensor in tensors):
        raise SpecError("inputs: a tensor on the meta device has no values")
    if not any(tensor.ndim for tensor in tensors) or not all(map(Tensor.numel, tensors)):
        raise SpecError(f"inputs: the data ({', '.join(call.data)}) are empty: a tensor [B, ...] is needed")


def prepare_subject(network: nn.Module, call: Call, t: float) -> Prepared:
    """A copy of a network, run at a time: in float64 if it can.

    Raises:
        SpecError: it does not run.
    """
    _check_data(call)
    given = isinstance(call.example, Tensor)
    examples = [call.example] if given else list(FORMS)
    in_double = ""
    for double in (True, False):
        copied = copy_network(network, double)
        buffers = {name: buffer.clone() for name, buffer in copied.named_buffers()}
        errors: list[str] = []
        for example in examples:
            subject = Subject(copied, _cast(call) if double else call, example, buffers)
            try:
                tape, _, outputs = subject.record(t)
            except SpecError:
                raise
            except Exception as error:
                errors.append(first_line(error))
                continue
            notes = [] if given else [f"the time is given as {example}"]
            if not double:
                notes.append(
                    f"it does not run in float64 ({in_double}): run in {str(subject.dtype).removeprefix('torch.')}"
                )
            return Prepared(subject, tape, outputs, notes)
        in_double = in_double or errors[0]
    different = list(dict.fromkeys(errors))
    forms = ", in whatever form the time is given" if len(different) > 1 else ""
    raise SpecError(f"{type(network).__name__} does not run on these inputs{forms}: {'; '.join(different)}")
