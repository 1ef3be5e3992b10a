"""Training losses that a network can be told the wrong time under: DDPM's, flow matching, EDM's; or the user's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pipeline.audit.call import FORMS, Call, make_time
from pipeline.diffusion.continuous import linear_path
from pipeline.diffusion.path import GaussianPath, add_noise, align_factors
from pipeline.diffusion.schedule import make_schedule
from pipeline.schema.base import SpecError
from pipeline.schema.diffusion import Diffusion
from pipeline.schema.mistakes import find_meant

Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""(network, images [B, ...], their times [B], the times that the network is told [B]) -> the loss of each image [B].

Noise comes from torch's global generator: it is the same whatever is told.
"""
LOSSES = ("ddpm", "flow", "edm")
_SIGMA_DATA = 0.5
"""Karras et al. 2022, table 1."""


@dataclass(frozen=True)
class Teller:
    """Runs a network on other images than its example's, with a time for each.

    Args:
        call: the example.
        example: a time as the network takes it: a tensor or a key of `FORMS`.
    """

    call: Call
    example: Any
    batch: int
    """Images in the example."""

    def _fit(self, tensor: Tensor, count: int) -> Tensor:
        """Constants, one for each image, such as labels: those of the example again and again."""
        one_each = tensor.ndim > 0 and len(tensor) == self.batch
        return tensor[torch.arange(count, device=tensor.device) % self.batch] if one_each else tensor

    @property
    def one_each(self) -> bool:
        """Whether the network takes a time for each image; else one for all."""
        if isinstance(self.example, Tensor):
            return self.example.ndim > 0 and len(self.example) == self.batch
        return FORMS[self.example][1] > 0

    def _run(self, network: nn.Module, x: Tensor, told: Tensor) -> Tensor:
        """Run it on images [B, ...] and times: [B], or of one number."""
        call = self.call.map(lambda tensor: self._fit(tensor, len(x)))
        example = self._fit(self.example, len(x)) if isinstance(self.example, Tensor) else self.example
        like = make_time(example, 0.0, len(x), x.dtype, x.device)
        told = told.to(like.dtype).view(-1, *[1] * max(like.ndim - 1, 0))  # [B, 1, ..., 1], or [1]
        call = call.put(told.expand(like.shape or (1,)).reshape(like.shape)).put_argument(self.call.data[0], x)
        outputs = [leaf for leaf in tree_leaves(call.run(network)) if isinstance(leaf, Tensor)]
        return outputs[0][:, : x.shape[1]]  # behind the first C channels some have a variance

    def predict(self, network: nn.Module, x: Tensor, told: Tensor) -> Tensor:
        """The network's output for images [B, C, ...] told times [B]."""
        if self.one_each:
            found = self._run(network, x, told)
        else:  # always all images, so that kernels do the same for each of them, whatever is told
            found = torch.zeros_like(x)
            for t in told.unique():
                part = self._run(network, x, t)
                found = torch.where(align_factors(told == t, x).bool(), part, found)
        if found.shape != x.shape:
            shapes = f"the output has shape {list(found.shape)}, the data {list(x.shape)}"
            raise SpecError(f"{shapes}: give a loss of your own")
        return found


def _square(error: Tensor) -> Tensor:
    return error.double().square().flatten(1).mean(1)


def make_ddpm_loss(teller: Teller, diffusion: Diffusion | None = None) -> Loss:
    """The squared error of the predicted noise (Ho et al. 2020, equation 14); times are levels, 0 the least noisy."""
    schedule = make_schedule(diffusion or Diffusion())

    def loss(network: nn.Module, x: Tensor, t: Tensor, told: Tensor) -> Tensor:
        noise = torch.randn_like(x)
        path = schedule(t.round().long().clamp(0, schedule.levels - 1).cpu())
        moved = GaussianPath(*(part.to(x.device) for part in (path.alpha, path.sigma, path.d_alpha, path.d_sigma)))
        return _square(teller.predict(network, add_noise(moved, x, noise), told) - noise)

    return loss


def make_flow_loss(teller: Teller, noise_at: float, data_at: float) -> Loss:
    """Flow matching on the straight path (Lipman et al. 2023, equation 23, sigma_min = 0): the velocity in the time.

    Args:
        noise_at: the time of pure noise.
        data_at: the time of the data; below noise_at in SD3 and Flux, whose velocity is noise - data then.
    """
    sign = 1.0 if data_at > noise_at else -1.0

    def loss(network: nn.Module, x: Tensor, t: Tensor, told: Tensor) -> Tensor:
        noise = torch.randn_like(x)
        path = linear_path((data_at - t) / (data_at - noise_at))
        velocity = sign * (x - noise)
        return _square(teller.predict(network, add_noise(path, x, noise), told) - velocity)

    return loss


def make_edm_loss(teller: Teller, logarithmic: bool) -> Loss:
    """EDM's loss of the raw network F (Karras et al. 2022, equation 8), whose effective weight is 1 at each level.

    Args:
        logarithmic: the time is c_noise = ln(sigma) / 4; else it is sigma itself.
    """

    def loss(network: nn.Module, x: Tensor, t: Tensor, told: Tensor) -> Tensor:
        sigma = align_factors((4 * t).exp() if logarithmic else t, x)
        total = sigma**2 + _SIGMA_DATA**2
        noisy = x + sigma * torch.randn_like(x)
        c_in, c_skip, c_out = total**-0.5, _SIGMA_DATA**2 / total, sigma * _SIGMA_DATA * total**-0.5
        return _square(teller.predict(network, c_in * noisy, told) - (x - c_skip * noisy) / c_out)

    return loss


def make_loss(name: str, teller: Teller, times: Sequence[float], data_first: bool = False) -> Loss:
    """A built-in loss.

    Args:
        times: from the first to the last; of `flow`, from noise to data, or the other way with `data_first`.

    Raises:
        SpecError: there is none of that name.
    """
    if name == "ddpm":
        return make_ddpm_loss(teller)
    if name == "flow":
        first, last = (times[-1], times[0]) if data_first else (times[0], times[-1])
        return make_flow_loss(teller, first, last)
    if name == "edm":
        return make_edm_loss(teller, logarithmic=min(times) < 0)
    raise SpecError(f"loss = {name!r}: unknown{find_meant(name, LOSSES)}; allowed: {', '.join(LOSSES)}")
