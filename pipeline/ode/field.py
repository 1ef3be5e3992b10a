"""The vector field of a solve: what it may say about itself, and how it is called."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Derived:
    """Tensors computed from one parameter alone, through which alone the field uses it; with their graph."""

    parameter: nn.Parameter
    tensors: tuple[Tensor, ...]


@runtime_checkable
class Deriving(Protocol):
    """A field that computes tensors from its parameters alone; a solve computes them once in place of at every call."""

    def derive(self) -> list[Derived]:
        """The tensors, from the parameters as they are now."""

    def use(self, tensors: Sequence[Tensor] | None) -> None:
        """Take these tensors, in the order of `derive`, in place of computing them; None: compute them again."""


class CountedField(nn.Module):
    """A vector field (t, x) that counts its evaluations, and keeps the autocast of the forward pass in the backward."""

    def __init__(self, field: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.field = field
        self.evaluations = 0
        self.device_type = device.type
        self.autocast = torch.is_autocast_enabled(device.type)
        self.autocast_dtype = torch.get_autocast_dtype(device.type)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The derivative at time t, in the type of x."""
        self.evaluations += 1
        with torch.autocast(self.device_type, self.autocast_dtype) if self.autocast else nullcontext():
            value: Tensor = self.field(t, x)
        return value.to(x.dtype)

    def derive(self) -> list[Derived]:
        """What the field derives; nothing, if it does not."""
        return self.field.derive() if isinstance(self.field, Deriving) else []

    @contextmanager
    def using(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Calls take these tensors in place of deriving them."""
        if not isinstance(self.field, Deriving):
            yield
            return
        self.field.use(tensors)
        try:
            yield
        finally:
            self.field.use(None)
