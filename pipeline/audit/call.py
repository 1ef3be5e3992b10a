"""A call of a network: its inputs by name, which of them is the time, which are the data."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter, tree_map

from pipeline.schema.base import SpecError
from pipeline.schema.mistakes import find_meant

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
MISSING = object()
"""The time's place is empty: no example of it was given."""


def _list_fields(container: Any) -> Sequence[str]:
    """Of a named tuple."""
    return getattr(container, "_fields", ()) if isinstance(container, tuple) else ()


def _step_into(container: Any, key: str) -> Any:
    if isinstance(container, Mapping):
        return container.get(key, MISSING)
    if key in _list_fields(container):
        return getattr(container, key)
    if isinstance(container, Sequence) and not isinstance(container, str):
        return container[int(key)] if key.isdigit() and int(key) < len(container) else MISSING
    return getattr(container, key, MISSING)


def _put(container: Any, path: Sequence[str], value: Any) -> Any:
    """A copy of nested containers with another value in one place."""
    if not path:
        return value
    key, *rest = path
    inner = _put(_step_into(container, key), rest, value)
    if isinstance(container, Mapping):
        return type(container)({**container, key: inner})  # type: ignore[call-arg]
    if fields := _list_fields(container):
        return container._replace(**{fields[int(key)] if key.isdigit() else key: inner})
    if isinstance(container, list | tuple):
        return type(container)([inner if place == int(key) else one for place, one in enumerate(container)])
    if _is_record(container):
        return replace(container, **{key: inner})
    raise SpecError(
        f"time: a {type(container).__name__} cannot hold another time; a dict, list, tuple or dataclass can"
    )


def _list_keys(container: Any) -> list[str]:
    if isinstance(container, Mapping):
        return [str(key) for key in container]
    if fields := _list_fields(container):
        return list(fields)
    if isinstance(container, Sequence) and not isinstance(container, str):
        return [str(place) for place in range(len(container))]
    return list(vars(container)) if hasattr(container, "__dict__") else []


@dataclass(frozen=True)
class Call:
    """What a network is called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    names: tuple[str, ...]
    """Of the positional arguments."""
    time: tuple[str, ...]
    """Name of the argument that is or holds the time, and the keys below it."""
    data: tuple[str, ...] = ()
    """Names of the arguments that are the data."""

    @property
    def arguments(self) -> dict[str, Any]:
        """All of them by name."""
        return {**dict(zip(self.names, self.args, strict=True)), **self.kwargs}

    @property
    def example(self) -> Any:
        """The time that was given, or `MISSING`."""
        found = self.arguments.get(self.time[0], MISSING)
        for key in self.time[1:]:
            found = _step_into(found, key)
        return found

    def put(self, value: Any) -> "Call":
        """The same call with another time."""
        head, *rest = self.time
        inner = _put(self.arguments.get(head), rest, value)
        return self.put_argument(head, inner)

    def put_argument(self, name: str, value: Any) -> "Call":
        """The same call with another value of an argument."""
        if name in self.names:
            args = tuple(value if key == name else one for key, one in zip(self.names, self.args, strict=True))
            return replace(self, args=args)
        return replace(self, kwargs={**self.kwargs, name: value})

    def map(self, change: Callable[[Tensor], Tensor]) -> "Call":
        """The same call with other tensors, those of the time included."""
        return replace(self, args=_map(self.args, change), kwargs=_map(self.kwargs, change))

    def list_tensors(self, name: str) -> list[Tensor]:
        """The tensors of an argument, without the time."""
        given = self.arguments[name]
        if name == self.time[0]:
            given = _put(given, self.time[1:], None) if self.time[1:] else None
        return [leaf for leaf in tree_iter(_open(given)) if isinstance(leaf, Tensor)]

    def run(self, network: nn.Module) -> Any:
        """Call the network."""
        return network(*self.args, **self.kwargs)


def _is_record(given: Any) -> bool:
    """Whether it is a dataclass with values, which torch's trees take for a leaf."""
    return is_dataclass(given) and not isinstance(given, type)


def _open(given: Any) -> Any:
    return vars(given) if _is_record(given) else given


def _map(given: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Containers with other tensors in them."""

    def map_leaf(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return change(leaf)
        return replace(leaf, **_map(vars(leaf), change)) if _is_record(leaf) else leaf

    return tree_map(map_leaf, given)


def _list_parameters(network: nn.Module) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(network.forward).parameters)
    except (TypeError, ValueError):
        raise SpecError(f"{type(network).__name__}.forward has no signature: give the inputs as a dict") from None


def list_names(network: nn.Module) -> list[str]:
    """Names of the arguments that a network takes."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, one in _list_parameters(network).items() if one.kind not in kinds]


def _find_time(network: nn.Module, time: str | int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    names = list_names(network)
    head, *rest = str(time).split(".")
    if head.isdigit():
        if int(head) >= len(names):
            raise SpecError(f"time = {time}: {type(network).__name__} takes {len(names)} arguments: {', '.join(names)}")
        head = names[int(head)]
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in _list_parameters(network).values())
    if head not in names and head not in kwargs and not takes_any:
        raise SpecError(
            f"time = {time!r}: {type(network).__name__} has no argument {head!r}{find_meant(head, names)}; "
            f"it takes {', '.join(names)}"
        )
    found = kwargs.get(head, dict(zip(names, args, strict=False)).get(head, MISSING))
    for place, key in enumerate(rest):
        inside = ".".join([head, *rest[:place]])
        if found is MISSING:
            raise SpecError(f"time = {time!r}: the inputs hold no {inside!r}")
        known, found = _list_keys(found), _step_into(found, key)
        if found is MISSING and known and place < len(rest):
            raise SpecError(
                f"time = {time!r}: {inside!r} has no {key!r}{find_meant(key, known)}; it has {', '.join(known)}"
            )
    return (head, *rest)


def _find_first(network: nn.Module, time: str) -> str:
    """The first argument that is not the time."""
    names = list_names(network)
    head = names[int(time)] if time.isdigit() and int(time) < len(names) else time.split(".")[0]
    return next((name for name in names if name != head), "x")


def _choose_data(call: Call, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The data: of the inputs of real numbers those with three axes or more; if there are none, all of them."""
    names = list(call.arguments)
    for name in wanted or ():
        if name not in names:
            raise SpecError(f"data = {name!r}: no such input{find_meant(name, names)}; there are {', '.join(names)}")
        if not call.list_tensors(name):
            raise SpecError(f"data = {name!r}: this input has no tensor beside the time")
    if wanted:
        return tuple(wanted)
    axes = {
        name: max((tensor.ndim for tensor in call.list_tensors(name) if tensor.is_floating_point()), default=-1)
        for name in names
    }
    large = tuple(name for name, count in axes.items() if count >= 3)
    found = large or tuple(name for name, count in axes.items() if count >= 0)
    found = found or tuple(name for name in names if call.list_tensors(name))
    if not found:
        raise SpecError("inputs: no tensor beside the time: give an example of what the network takes")
    return found


def bind_call(network: nn.Module, inputs: Any, time: str | int, data: Sequence[str] | None = None) -> Call:
    """What a network is to be called with.

    Args:
        inputs: a tensor, the first argument but for the time; a tuple of arguments or a dict of them; the time may be
            left out.
        time: name or place of the argument, or a path such as `cond.t`.
        data: names of the inputs that are the data; None: guessed.

    Raises:
        SpecError: there is no such argument, or the network does not take these.
    """
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, Tensor):
        kwargs = {_find_first(network, str(time)): inputs}
    elif isinstance(inputs, Mapping):
        kwargs = {str(name): value for name, value in inputs.items()}
    elif isinstance(inputs, Sequence) and not isinstance(inputs, str):
        args = tuple(inputs)
    else:
        raise SpecError(f"inputs: a {type(inputs).__name__}; a tensor, a tuple or a dict is needed")
    path = _find_time(network, time, args, kwargs)
    names = [name for name, one in _list_parameters(network).items() if one.kind in _POSITIONAL]
    names = (names + [f"argument {place}" for place in range(len(names), len(args))])[: len(args)]
    call = Call(args, kwargs, tuple(names), path)
    bound = call if call.example is not MISSING else call.put(0.0)
    try:
        inspect.signature(network.forward).bind(*bound.args, **bound.kwargs)
    except TypeError as error:
        raise SpecError(f"inputs: {error}; {type(network).__name__} takes {', '.join(list_names(network))}") from None
    return replace(call, data=_choose_data(bound, data))


def make_time(example: Any, t: float, batch: int, like: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of a time, in shape and type of an example.

    Args:
        example: a tensor, or one of `FORMS`.
        like: the type of real numbers.
    """
    if isinstance(example, Tensor):
        dtype = like if example.is_floating_point() else example.dtype
        return torch.full(example.shape, t, dtype=dtype, device=device)
    whole, axes = FORMS[example]
    return torch.full((batch, 1)[:axes], t, dtype=torch.long if whole else like, device=device)


FORMS = {
    "a tensor [B]": (False, 1),
    "a scalar tensor": (False, 0),
    "whole numbers [B]": (True, 1),
    "a whole number": (True, 0),
    "a tensor [B, 1]": (False, 2),
}
"""How a time may be given where there is no example, the likeliest first: of whole numbers or not, and its axes."""
