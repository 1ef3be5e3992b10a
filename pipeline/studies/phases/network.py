"""One network for all times: what it is told, how it is trained on times of a density, and how it samples."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.compute.seeding import make_generator, seed_global
from pipeline.diffusion.time_change import TimeChange
from pipeline.schema.study import MeasureError
from pipeline.studies.phases.density import Density
from pipeline.studies.phases.study import Denoiser, PhasesRecord, Training


class Network(nn.Module):
    """x [B, d] at times u [B] to the x0-prediction: the linear part of a mode, and a perceptron for the rest.

    Args:
        spread: standard deviation of a mode, in each coordinate.
    """

    def __init__(self, denoiser: Denoiser, dimension: int, spread: float) -> None:
        super().__init__()
        self.clock, self.dimension, self.spread = denoiser.clock, dimension, spread
        width = denoiser.width
        self.layers = nn.Sequential(nn.Linear(dimension + 2, width), nn.Tanh(), nn.Linear(width, dimension))

    def read_clock(self, u: Tensor) -> Tensor:
        """What is told of the time, [B, 2], in [0, 1]."""
        if self.clock == "none":
            return torch.zeros(len(u), 2)
        scaled = u * math.sqrt(self.dimension)
        return torch.stack([scaled / (1 + scaled) if self.clock == "scaled" else u, u], 1)

    def forward(self, u: Tensor, x: Tensor) -> Tensor:
        gain = self.spread**2 * u / ((1 - u) ** 2 + (self.spread * u) ** 2)
        scaled = x / math.sqrt(self.dimension)  # mu x / sqrt(d) is of order 1 where the mode is settled
        out: Tensor = gain[:, None] * x + self.layers(torch.cat([scaled, self.read_clock(u)], 1))
        return out


def make_network(denoiser: Denoiser, dimension: int, spread: float, seed: int) -> Network:
    """An untrained network with the weights of a seed."""
    seed_global(seed, "initialisation")
    return Network(denoiser, dimension, spread)


def train_network(
    network: Network,
    density: Density,
    draw_data: Callable[[int, torch.Generator], Tensor],
    training: Training,
    seed: int,
) -> None:
    """Train on new data and new times at every step.

    Args:
        draw_data: (B, generator) to data [B, d], float32.

    Raises:
        MeasureError: the loss is not finite.
    """
    generator = make_generator("cpu", seed, "batches")
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    for step in range(training.steps):
        u = density.draw(torch.rand(training.batch_size, generator=generator))
        x0 = draw_data(training.batch_size, generator)
        x = u[:, None] * x0 + (1 - u[:, None]) * torch.randn(x0.shape, generator=generator)
        loss = (network(u, x) - x0).square().mean()
        if not math.isfinite(loss.item()):
            raise MeasureError(f"the training loss is {loss.item()}", step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.param_groups[0]["lr"] = training.learning_rate * (1 - step / training.steps)
        optimiser.step()


@torch.no_grad()
def sample_network(network: Network, dilation: TimeChange, grid: int, drawn: int, generator: torch.Generator) -> Tensor:
    """Samples [drawn, d] by Euler's method for the probability flow, in dilated time."""
    x = torch.randn(drawn, network.dimension, generator=generator)
    for t, t_next in pairwise(dilation.make_grid(grid).tolist()):
        u = torch.full((drawn,), 1 - t)
        x = x + (t_next - t) / t * (x - network(u, x))  # on the path x_t = (1 - t) x_0 + t noise
    return x


def count_weight(heavy: Tensor, target: float) -> PhasesRecord:
    """The share of samples in the heavy mode, its binomial standard error, and its distance from the target.

    Args:
        heavy: whether a sample is in it, [N], bool.
    """
    count, drawn = int(heavy.sum()), len(heavy)
    middle = (count + 2) / (drawn + 4)  # never 0 or 1 (Agresti and Coull 1998)
    error = math.sqrt(middle * (1 - middle) / (drawn + 4))
    return PhasesRecord(weight=count / drawn, weight_stderr=error, weight_error=abs(count / drawn - target))
