"""What a network makes of the time in another type: a Python number, whole numbers, bfloat16."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import floor
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from pipeline.audit.embedding import count_distinct
from pipeline.audit.findings import Form
from pipeline.audit.subject import Subject, first_line

_SMALL = 2**16
"""Numbers in a tensor that is looked at: embeddings are smaller, and features need not be kept."""
_MARGIN = 32
"""Operations that a Python number may need more than a tensor."""
_MANY = 100
_STEP = 0.9
"""Two times that are this far apart are the same whole number."""


class _EnoughError(Exception):
    """The embedding has been computed."""


class _Outputs(TorchDispatchMode):
    """Keeps the small outputs of the first operations, and stops behind them."""

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: list[Tensor] = []
        self._left = limit

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and keep what it gives."""
        if self._left == 0:
            raise _EnoughError
        self._left -= 1
        result = func(*args, **(kwargs or {}))
        self.kept += [leaf.clone() for leaf in tree_iter(result) if isinstance(leaf, Tensor) and leaf.numel() <= _SMALL]
        return result


def _run(subject: Subject, time: Any, limit: int) -> list[Tensor]:
    call = subject.call.map(torch.clone).put(time)
    subject.restore()
    outputs = _Outputs(limit)
    with torch.no_grad(), outputs, suppress(_EnoughError):
        call.run(subject.network)
    return outputs.kept


def _same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether two passes computed the same, bit by bit."""
    return bool(one) and len(one) == len(other) and all(map(torch.equal, one, other))


def try_number(subject: Subject, times: Sequence[float], limit: int) -> Form:
    """The time as a Python float: whether it is cut to a whole number, as UNet2DModel does (diffusers#13654).

    Args:
        limit: operations that are compared.
    """
    first = times[0]
    second = min(floor(first) + _STEP, times[-1])
    try:
        same = _same(_run(subject, first, limit), _run(subject, second, limit))
    except Exception as error:
        return Form(name="Python float", distinct=None, times=len(times), note=f"not taken: {first_line(error)}")
    distinct, note = None, f"{first:g} and {second:g} are told apart"
    if same:
        distinct = len({int(t) for t in times})
        note = f"cut to a whole number: {first:g} and {second:g} are the same"
    return Form(name="Python float", distinct=distinct, times=len(times), note=note)


def _count(name: str, embed: Callable[[float], Tensor], times: Sequence[float], batch: int) -> Form:
    try:
        count = count_distinct(embed, times, batch)
    except Exception as error:
        return Form(name=name, distinct=None, times=len(times), note=f"not taken: {first_line(error)}")
    note = f"of {len(times)} times from {times[0]:g} to {times[-1]:g}, {count} are told apart"
    return Form(name=name, distinct=count, times=len(times), note=note)


def _list_fine(times: Sequence[float]) -> Sequence[float]:
    """The last whole numbers, where there are many: bfloat16 has eight bits."""
    last = floor(times[-1])
    return [float(last - back) for back in reversed(range(_MANY))] if last - times[0] >= _MANY else times


def try_forms(
    subject: Subject, embed: Callable[[Tensor], Tensor] | None, times: Sequence[float], operations: int
) -> list[Form]:
    """Try other types of the time.

    Args:
        operations: how many there are up to the first embedding.
        embed: gives the first embedding of a tensor of the time; None: only a pass of the network could.
        times: ascending.
    """
    found = [try_number(subject, times, operations + _MARGIN)]
    if embed is not None:
        for name, dtype, tried in (
            ("whole numbers", torch.long, times),
            ("bfloat16", torch.bfloat16, _list_fine(times)),
        ):
            typed = partial(_embed_typed, subject, embed, dtype)
            found.append(_count(name, typed, tried, subject.batch))
    return found


def _embed_typed(subject: Subject, embed: Callable[[Tensor], Tensor], dtype: torch.dtype, t: float) -> Tensor:
    return embed(subject.make_time(t).to(dtype))
