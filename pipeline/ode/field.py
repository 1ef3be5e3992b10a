"""The vector field of a solve: an optional protocol for derived tensors, and a wrapper that counts evaluations."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Derived:
    """Tensors computed from one parameter, with their graph. The field uses that parameter only through them."""

    parameter: nn.Parameter
    tensors: tuple[Tensor, ...]


@runtime_checkable
class Deriving(Protocol):
    """A field with tensors that depend on its parameters alone. A solve computes them once, not at every call."""

    def derive(self) -> list[Derived]:
        """Compute the tensors from the current parameters."""

    def use(self, tensors: Sequence[Tensor] | None) -> None:
        """Use these tensors, in the order of `derive`, instead of computing them. None: compute them at each call."""


class FrozenField(nn.Module):
    """A vector field (t, x) whose time stands still: the value at one time, whatever t is.

    Args:
        time: the time at which `field` is evaluated.
    """

    def __init__(self, field: nn.Module, time: float) -> None:
        super().__init__()
        self.field, self.time = field, time

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The derivative at the frozen time, in the shape of x."""
        value: Tensor = self.field(torch.full_like(t, self.time), x)
        return value


class CountedField(nn.Module):
    """A vector field (t, x) that counts its evaluations.

    It also stores the autocast state, so that the backward pass runs under the autocast of the forward pass.
    """

    def __init__(self, field: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.field = field
        self.evaluations = 0
        self.device_type = device.type
        self.autocast = torch.is_autocast_enabled(device.type)
        self.autocast_dtype = torch.get_autocast_dtype(device.type)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The derivative at time t, in the shape and dtype of x."""
        self.evaluations += 1
        with torch.autocast(self.device_type, self.autocast_dtype) if self.autocast else nullcontext():
            value: Tensor = self.field(t, x)
        return value.to(x.dtype)

    def derive(self) -> list[Derived]:
        """The field's derived tensors; none if it is not `Deriving`."""
        return self.field.derive() if isinstance(self.field, Deriving) else []

    @contextmanager
    def using(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Context manager: calls use these tensors instead of deriving them."""
        if not isinstance(self.field, Deriving):
            yield
            return
        self.field.use(tensors)
        try:
            yield
        finally:
            self.field.use(None)
