"""What a network makes of the time in another type: a Python number, whole numbers, bfloat16."""

from collections.abc import Callable, Sequence
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
_STEP = 0.9
"""Two times that are this far apart are the same whole number."""


class _Outputs(TorchDispatchMode):
    """Keeps the small outputs of all operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and keep what it gives."""
        result = func(*args, **(kwargs or {}))
        self.kept += [leaf.clone() for leaf in tree_iter(result) if isinstance(leaf, Tensor) and leaf.numel() <= _SMALL]
        return result


def _run(subject: Subject, time: Any) -> list[Tensor]:
    call = subject.call.map(torch.clone).put(time)
    subject.restore()
    outputs = _Outputs()
    with torch.no_grad(), outputs:
        call.run(subject.network)
    return outputs.kept


def _same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether two passes computed the same, bit by bit."""
    return len(one) == len(other) and all(map(torch.equal, one, other))


def try_number(subject: Subject, times: Sequence[float]) -> Form:
    """The time as a Python float: whether it is cut to a whole number, as UNet2DModel does (diffusers#13654)."""
    first = times[0]
    second = min(floor(first) + _STEP, times[-1])
    try:
        same = _same(_run(subject, first), _run(subject, second))
    except Exception as error:
        return Form(name="Python float", distinct=None, note=f"not taken: {first_line(error)}")
    if same:
        count = len({int(t) for t in times})
        return Form(
            name="Python float", distinct=count, note=f"cut to a whole number: {first:g} and {second:g} are the same"
        )
    return Form(name="Python float", distinct=None, note=f"{first:g} and {second:g} are told apart")


def _count(
    name: str, dtype: torch.dtype, subject: Subject, embed: Callable[[Tensor], Tensor], times: Sequence[float]
) -> Form:
    try:
        count = count_distinct(lambda t: embed(subject.make_time(t).to(dtype)), times, subject.batch)
    except Exception as error:
        return Form(name=name, distinct=None, note=f"not taken: {first_line(error)}")
    return Form(name=name, distinct=count, note=f"{count} of {len(times)} times are told apart")


def try_forms(subject: Subject, embed: Callable[[Tensor], Tensor] | None, times: Sequence[float]) -> list[Form]:
    """Try other types of the time.

    Args:
        embed: gives the first embedding of a tensor of the time; None: only a pass of the network could.
        times: ascending.
    """
    found = [try_number(subject, times)]
    if embed is not None:
        kinds = {"whole numbers": torch.long, "bfloat16": torch.bfloat16}
        found += [_count(name, dtype, subject, embed, times) for name, dtype in kinds.items()]
    return found
