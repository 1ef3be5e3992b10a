"""A norm as a function of what enters it: as it is, with its statistics held, and with one group a channel."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pipeline.audit.replay import Replay
from pipeline.audit.route import NormFound

Function = Callable[[Tensor], Tensor]
EPS = 1e-5
"""PyTorch's default, for a norm that does not say its own."""


def _scale(normalised: Tensor, weight: Tensor | None, bias: Tensor | None, axis: int | None) -> Tensor:
    """The affine map, along a channel axis or along the last axes."""
    for tensor, multiplies in ((weight, True), (bias, False)):
        if tensor is not None:
            shape = [-1 if place == axis else 1 for place in range(normalised.ndim)]
            fitted = tensor if axis is None else tensor.view(shape)
            normalised = normalised * fitted if multiplies else normalised + fitted
    return normalised


class ReplayedNorm:
    """A norm of a tape, in float64.

    Args:
        held: values of its weights, as recorded.
    """

    def __init__(self, norm: NormFound, held: Mapping[int, Tensor]) -> None:
        self.norm, self.replay = norm, Replay(norm.steps, held)
        step = norm.steps[0]
        self.arguments = [self.replay.held.get(given.id) if hasattr(given, "id") else given for given in step.args]

    def run(self, z: Tensor) -> dict[int, Tensor]:
        """All values of the norm, of what enters it."""
        return self.replay.run({self.norm.entry: z.contiguous()})

    def apply(self, z: Tensor) -> Tensor:
        """What leaves the norm."""
        return self.run(z)[self.norm.output]

    @property
    def eps(self) -> float:
        """What it adds to the variance: the last argument of all norms."""
        given = self.arguments[-1] if not self.norm.reductions else None
        return given if isinstance(given, float) else EPS

    @property
    def groups(self) -> int | None:
        """Of a group normalisation."""
        return int(self.norm.steps[0].args[6]) if self.norm.kind == "group" else None

    def find_axes(self, z: Tensor) -> set[int]:
        """The axes of what enters over which it takes its statistics, where it says so by axes."""
        step = self.norm.steps[0]
        if not self.norm.reductions:
            counted = self.norm.kind == "layer" or step.name == "_fused_rms_norm"
            return set(range(z.ndim - len(step.args[1]), z.ndim)) if counted else set()
        values = self.run(z)
        axes = set[int]()
        for step in self.norm.steps:
            whole = values[step.inputs[0]].shape == z.shape
            if set(step.outputs) & set(self.norm.reductions) and whole:
                axes |= {axis % z.ndim for given in step.args if isinstance(given, list) for axis in given}
        return axes

    def freeze(self, first: Tensor) -> Function:
        """The same norm with the statistics of `first`: an affine map."""
        values = self.run(first)
        if self.norm.reductions:
            fixed = {id: values[id] for id in self.norm.reductions}
            return lambda z: self.replay.run({**fixed, self.norm.entry: z.contiguous()})[self.norm.output]
        _, *statistics = (values[id] for id in self.norm.steps[0].outputs)
        return {"group": self._freeze_groups, "layer": self._freeze_layer, "rms": self._freeze_rms}.get(
            self.norm.kind, self._freeze_batch
        )(statistics)

    def _freeze_groups(self, statistics: list[Tensor]) -> Function:
        mean, rstd = statistics  # [B, G]
        _, weight, bias, *_ = self.arguments

        def normalise(z: Tensor) -> Tensor:
            grouped = z.reshape(*mean.shape, -1)
            normalised = ((grouped - mean[..., None]) * rstd[..., None]).view(z.shape)
            return _scale(normalised, weight, bias, 1)

        return normalise

    def _freeze_layer(self, statistics: list[Tensor]) -> Function:
        mean, rstd = statistics  # 1 along the normalised axes
        _, _, weight, bias, *_ = self.arguments
        return lambda z: _scale((z - mean) * rstd, weight, bias, None)

    def _freeze_rms(self, statistics: list[Tensor]) -> Function:
        (rstd,) = statistics
        weight = self.arguments[2] if len(self.arguments) > 2 else None
        return lambda z: _scale(z * rstd, weight, None, None)

    def _freeze_batch(self, statistics: list[Tensor]) -> Function:
        if not self.uses_batch:
            return self.apply  # its statistics are held already
        mean, rstd = statistics[:2]  # [C]
        _, weight, bias, *_ = self.arguments

        def normalise(z: Tensor) -> Tensor:
            shape = [1, -1, *[1] * (z.ndim - 2)]
            return _scale((z - mean.view(shape)) * rstd.view(shape), weight, bias, 1)

        return normalise

    @property
    def uses_batch(self) -> bool:
        """Whether a batch normalisation takes the batch's own statistics."""
        if self.norm.kind != "batch":
            return False
        name = self.norm.steps[0].name
        if name in ("_batch_norm_no_update", "_native_batch_norm_legit_no_training"):
            return False
        return name == "_batch_norm_with_update" or any(given is True for given in self.arguments[3:6])


def normalise_channels(z: Tensor, axis: int, eps: float) -> tuple[Function, Function] | None:
    """Group normalisation with G = C in a norm's place, and the same with the statistics of z; no affine map.

    Args:
        axis: of the channels; axis 0 is the images'.

    Returns:
        None: a channel of an image is one number.
    """
    others = [place for place in range(1, z.ndim) if place != axis]
    if not others or all(z.shape[place] == 1 for place in others):
        return None

    def measure(value: Tensor) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(value, others, correction=0, keepdim=True)
        return mean, (variance + eps).rsqrt()

    mean, rstd = measure(z)

    def normalise(value: Tensor) -> Tensor:
        own_mean, own_rstd = measure(value)
        return (value - own_mean) * own_rstd

    return normalise, lambda value: (value - mean) * rstd
