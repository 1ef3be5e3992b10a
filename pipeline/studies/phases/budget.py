"""One network for all times at a fixed budget: does the density of training times decide the weight of the modes?"""

import math
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.compute.seeding import make_generator, seed_global
from pipeline.diffusion.targets import Mixture
from pipeline.diffusion.time_change import TimeChange, bend
from pipeline.schema.study import MeasureError
from pipeline.studies.phases.study import BudgetRun, Denoiser, PhasesRecord, Target
from pipeline.studies.phases.uturn import find_return, make_mixture

Array = NDArray[np.float64]
_TABLE = 400
"""Points of the table of U-turns."""


class Network(nn.Module):
    """x [B, d] at times u [B] to the x0-prediction: the exact linear part, and a perceptron for the rest."""

    def __init__(self, denoiser: Denoiser, mixture: Mixture) -> None:
        super().__init__()
        d = mixture.dimension
        self.mixture, self.clock = mixture, denoiser.clock
        self.layers = nn.Sequential(nn.Linear(d + 2, denoiser.width), nn.Tanh(), nn.Linear(denoiser.width, d))

    def read_clock(self, u: Tensor) -> Tensor:
        """What is told of the time, [B, 2], in [0, 1]."""
        if self.clock == "none":
            return torch.zeros(len(u), 2)
        scaled = u * math.sqrt(self.mixture.dimension)
        return torch.stack([scaled / (1 + scaled) if self.clock == "scaled" else u, u], 1)

    def forward(self, u: Tensor, x: Tensor) -> Tensor:
        spread = self.mixture.spread
        gain = spread**2 * u / ((1 - u) ** 2 + (spread * u) ** 2)
        scaled = x / math.sqrt(x.shape[1])  # mu x / sqrt(d) is of order 1 where the mode is settled
        out: Tensor = gain[:, None] * x + self.layers(torch.cat([scaled, self.read_clock(u)], 1))
        return out


def dilate_time(target: Target) -> TimeChange:
    """Half of the time for u below k / sqrt(d)."""
    return bend(1 - target.k / math.sqrt(target.dimension))


class Density:
    """Training times u from uniform numbers.

    windowed: half of the draws are spread over all times, the other half goes where U-turns change the mode, by the
    inverse of their table. Aranguri and Insulla 2024 (arXiv 2412.07972) put half of the draws in a window by hand.
    """

    def __init__(self, kind: str, target: Target) -> None:
        self.kind, self.change = kind, dilate_time(target)
        self._table = tabulate_turns(make_mixture(target)) if kind == "windowed" else None

    def draw(self, v: Tensor) -> Tensor:
        """Times u [B] from v [B], uniform in [0, 1]."""
        if self._table is None:
            return v if self.kind == "uniform" else 1 - self.change.tau(1 - v)
        u, share = self._table
        within = torch.from_numpy(np.interp((2 * v - 1).clamp(min=0).numpy(), share, u)).to(v.dtype)
        return torch.where(v < 0.5, 2 * v, within)


def tabulate_turns(mixture: Mixture) -> tuple[Array, Array]:
    """Times u, rising, and the share of the changes of mode that U-turns from 0 to u have lost, from 0 to 1."""
    u = (np.arange(_TABLE + 1) / _TABLE) ** 2
    stays = np.array([find_return(mixture, value, 1) for value in u.tolist()])
    return u, (stays - stays[0]) / (stays[-1] - stays[0])


@torch.no_grad()
def sample_network(network: Network, target: Target, grid: int, drawn: int, generator: torch.Generator) -> Tensor:
    """Samples [drawn, d] by Euler's method for the probability flow, in dilated time."""
    x = torch.randn(drawn, target.dimension, generator=generator)
    times = dilate_time(target).make_grid(grid).tolist()
    for t, t_next in pairwise(times):
        u = torch.full((drawn,), 1 - t)
        x = x + (t_next - t) / t * (x - network(u, x))  # on the path x_t = (1 - t) x_0 + t noise
    return x


def measure_budget(run: BudgetRun) -> PhasesRecord:
    """Train on times of a density, then sample and count.

    Raises:
        MeasureError: the loss is not finite.
    """
    mixture, training, target = make_mixture(run.target), run.training, run.target
    seed_global(run.seed, "initialisation")
    network, generator = Network(run.denoiser, mixture), make_generator("cpu", run.seed, "batches")
    density = Density(run.denoiser.density, target)
    optimiser, shape = torch.optim.Adam(network.parameters(), fused=True), (training.batch_size, target.dimension)
    for step in range(training.steps):
        u = density.draw(torch.rand(shape[0], generator=generator))
        side = (torch.rand(shape[0], generator=generator) < mixture.weight).float()[:, None] * 2 - 1
        x0 = side + mixture.spread * torch.randn(shape, generator=generator)
        x = u[:, None] * x0 + (1 - u[:, None]) * torch.randn(shape, generator=generator)
        loss = (network(u, x) - x0).square().mean()
        if not math.isfinite(loss.item()):
            raise MeasureError(f"the training loss is {loss.item()}", step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.param_groups[0]["lr"] = training.learning_rate * (1 - step / training.steps)
        optimiser.step()
    drawn = run.denoiser.drawn
    ends = sample_network(network, target, run.denoiser.grid, drawn, make_generator("cpu", run.seed, "samples"))
    weight = float((ends.mean(1) > 0).sum()) / drawn
    middle = (weight * drawn + 2) / (drawn + 4)
    return PhasesRecord(
        weight=weight,
        weight_stderr=math.sqrt(middle * (1 - middle) / (drawn + 4)),
        weight_error=abs(weight - mixture.weight),
    )
