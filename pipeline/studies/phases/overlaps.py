"""Autoencoders c x + a tanh(w x / sqrt(d) + bias), one for each dilated time, against the Bayes denoiser.

The Bayes denoiser is one of them: its c, m = a mu / d, omega = w mu / d and bias are known.
"""

import math

import torch
from torch import Tensor

from pipeline.compute.seeding import make_generator
from pipeline.diffusion.targets import Mixture
from pipeline.diffusion.time_change import bend
from pipeline.schema.study import MeasureError
from pipeline.studies.phases.study import OverlapRun, PhasesRecord
from pipeline.studies.phases.uturn import make_mixture

IDENTIFIED = (0.25, 0.5)
"""Dilated times s between which omega and bias are identified. Before, only m tanh(bias) is; later only the sign of
mu x counts, more and more."""
_TEST = 4000
"""Samples at each time that the excess is measured on."""


class Autoencoders(torch.nn.Module):
    """One autoencoder a time: x [T, B, d] to the x0-prediction."""

    def __init__(self, times: int, dimension: int, generator: torch.Generator) -> None:
        super().__init__()
        self.c = torch.nn.Parameter(torch.zeros(times))
        self.bias = torch.nn.Parameter(torch.zeros(times))
        shape = (times, dimension)
        self.a, self.w = (torch.nn.Parameter(0.1 * torch.randn(shape, generator=generator)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.einsum("tbd,td->tb", x, self.w) / math.sqrt(x.shape[-1]) + self.bias[:, None]
        return self.c[:, None, None] * x + inner.tanh()[..., None] * self.a[:, None, :]

    def list_overlaps(self) -> Tensor:
        """c, m, omega, bias [T, 4]; of the two signs the one with omega > 0."""
        m, omega = self.a.mean(1), self.w.mean(1)
        return torch.stack([self.c, m * omega.sign(), omega.abs(), self.bias * omega.sign()], 1).detach()


def find_overlaps(mixture: Mixture, u: Tensor) -> Tensor:
    """c, m, omega, bias [T, 4] of the Bayes denoiser at times u [T], float64."""
    gain, pull, steepness = (torch.from_numpy(values) for values in mixture.weigh(u.numpy(), (1 - u).numpy()))
    omega = steepness * mixture.distance / math.sqrt(mixture.dimension)
    return torch.stack([gain, pull * mixture.distance, omega, torch.full_like(u, mixture.tilt)], 1)


def apply_bayes(mixture: Mixture, u: Tensor, x: Tensor) -> Tensor:
    """The Bayes denoiser at times u [T] of x [T, B, d], in x's dtype."""
    gain, pull, steepness = (
        torch.from_numpy(values).to(x.dtype)[:, None, None] for values in mixture.weigh(u.numpy(), (1 - u).numpy())
    )
    side = (mixture.tilt + steepness * x.mean(2, keepdim=True)).tanh()
    return gain * x + pull * mixture.distance * side


def draw_pairs(mixture: Mixture, u: Tensor, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Data x_0 and x_u, both [T, B, d], float32, new at each of the times u [T]."""
    shape = (len(u), batch, mixture.dimension)
    side = (torch.rand(shape[:2], generator=generator) < mixture.weight).float()[..., None] * 2 - 1
    x0 = side * mixture.distance + mixture.spread * torch.randn(shape, generator=generator)
    at = u.float()[:, None, None]
    return x0, at * x0 + (1 - at) * torch.randn(shape, generator=generator)


def list_times(times: int, k: float, dimension: int) -> tuple[Tensor, Tensor]:
    """Dilated times s in [0, 2], the middles of equal parts, and their u, in which u sqrt(d) = k at s = 1; float64."""
    s = (torch.arange(times, dtype=torch.float64) + 0.5) * 2 / times
    return s, 1 - bend(1 - k / math.sqrt(dimension)).tau(1 - s / 2)


def measure_overlaps(run: OverlapRun) -> PhasesRecord:
    """Train the autoencoders on new samples, and compare.

    Raises:
        MeasureError: the loss is not finite.
    """
    mixture, training = make_mixture(run.target), run.training
    s, u = list_times(run.autoencoder.times, run.target.k, mixture.dimension)
    network = Autoencoders(len(s), mixture.dimension, make_generator("cpu", run.seed, "initialisation"))
    generator = make_generator("cpu", run.seed, "batches")
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    for step in range(training.steps):
        x0, x = draw_pairs(mixture, u, training.batch_size, generator)
        loss = (network(x) - x0).square().mean((1, 2)).sum()
        if not math.isfinite(loss.item()):
            raise MeasureError(f"the training loss is {loss.item()}", step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.param_groups[0]["lr"] = training.learning_rate * (1 - step / training.steps)
        optimiser.step()
    return _compare(network, mixture, s, u, make_generator("cpu", run.seed, "test"))


@torch.no_grad()
def _compare(network: Autoencoders, mixture: Mixture, s: Tensor, u: Tensor, generator: torch.Generator) -> PhasesRecord:
    x0, x = draw_pairs(mixture, u, _TEST, generator)
    best = apply_bayes(mixture, u, x)
    excess = (network(x) - best).double().square().mean((1, 2)) / (best - x0).double().square().mean((1, 2))
    learned, exact = network.list_overlaps().double(), find_overlaps(mixture, u)
    apart = (learned - exact).abs()
    within = (s >= IDENTIFIED[0]) & (s <= IDENTIFIED[1])

    def find_worst(values: Tensor) -> float | None:
        return values.max().item() if len(values) else None

    return PhasesRecord(
        excess=excess.max().item(),
        c_error=apart[:, 0].max().item(),
        m_error=find_worst(apart[s >= IDENTIFIED[0], 1]),
        omega_error=find_worst((apart[:, 2] / exact[:, 2])[within]),
        bias_error=find_worst(apart[within, 3]),
        s=s.tolist(),
        learned=learned.tolist(),
        exact=exact.tolist(),
    )
