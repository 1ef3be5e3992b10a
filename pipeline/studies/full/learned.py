"""A small network trained on the mixture, and how far it is from the optimum: no sample decides the bound."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.compute.seeding import make_generator, seed_global
from pipeline.diffusion.parametrisation import PARAMETRISATIONS, Coefficients
from pipeline.diffusion.path import GaussianPath
from pipeline.diffusion.reverse import SOLVERS, SolverName, solve_reverse
from pipeline.diffusion.times import draw_floors, draw_uniform, spread_lognormal
from pipeline.schema.study import MeasureError
from pipeline.studies.full.line import Array, Line
from pipeline.studies.full.path import find_schedule, space_times
from pipeline.studies.full.study import FullRecord, LearnedRun

_DOUBLINGS = 4
_DECADES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Starts of the decades of sigma; the last one goes on to where the times end."""
_NODES = 32
"""Of the trapezoidal rule in log sigma, per decade."""
_SAMPLES = 2000
_CHUNK = 250
"""Steps whose batches are drawn at once."""


class Network(nn.Module):
    """Features [..., 9] to the output F [...]: two hidden layers; float64."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(1 + 2 * _DOUBLINGS, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
        ).double()

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.layers(features).squeeze(-1)
        return out


def list_features(path: GaussianPath, x: Tensor) -> Tensor:
    """What the network sees [..., 9] of x [...]: x, and cosine and sine of the angle on the circle and its doubles.

    Bounded, and the same for every schedule.
    """
    cosine, sine = path.alpha.expand_as(x), path.sigma.expand_as(x)
    features = [x]
    for _ in range(_DOUBLINGS):
        features += [cosine, sine]
        cosine, sine = cosine**2 - sine**2, 2 * cosine * sine
    return torch.stack(features, -1)


@dataclass(frozen=True)
class Learner:
    """A network and what its output stands for."""

    run: LearnedRun
    line: Line
    network: Network

    def weigh(self, path: GaussianPath) -> Coefficients:
        """The coefficients of what the network predicts."""
        return PARAMETRISATIONS[self.run.model.parametrisation](path, math.sqrt(self.line.variance))

    def predict_f(self, path: GaussianPath, x: Tensor) -> Tensor:
        """f [B] of x [B], the path at [B] or []."""
        parts = self.weigh(path)
        found: Tensor = parts.f_of_x * x + parts.f_of_output * self.network(list_features(path, x))
        return found


@dataclass(frozen=True)
class Batches:
    """Draws of many steps [updates, B]: the loss of an output F is the mean of square F^2 - 2 slope F."""

    features: Tensor
    """[updates, B, 9]."""
    square: Tensor
    slope: Tensor


def draw_times(run: LearnedRun, batches: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Times [batches, B], and how much of the interval each batch covers [batches, 1]."""
    times, batch, cut = run.times, run.learning.batch_size, run.path.truncation
    u = draw_uniform(times.draws, batches, batch, times.strata or batch, generator)
    if times.law == "lognormal":
        return spread_lognormal(u), torch.ones(batches, 1, dtype=torch.float64)
    first = torch.full((batches, 1), cut, dtype=torch.float64)
    if times.law == "soft":
        first = draw_floors(cut, batches, generator) * (1 - cut)
    return first + (1 - cut - first) * u, 1 - cut - first


def draw_batches(learner: Learner, batches: int, generators: dict[str, torch.Generator]) -> Batches:
    """The bound's loss, or the squared error of the output; terms without F are left out."""
    run = learner.run
    t, length = draw_times(run, batches, generators["time"])
    x0 = learner.line.draw(t.numel(), generators["data"]).view_as(t)
    noise = torch.randn(t.shape, dtype=torch.float64, generator=generators["noise"])
    path = find_schedule(run.path.schedule)(t)
    x, parts = path.alpha * x0 + path.sigma * noise, learner.weigh(path)
    features = list_features(path, x)
    if run.model.loss == "simple":
        return Batches(features, length.expand_as(t), length * (x0 - parts.of_x * x) / parts.of_output)
    v, d, rest = path.alpha * noise - path.sigma * x0, parts.f_of_output, parts.f_of_x * x
    weight = length * path.d_sigma * d
    return Batches(features, weight * path.sigma * d, weight * (v - path.sigma * rest))


def train(run: LearnedRun) -> Learner:
    """The network after its training.

    Raises:
        MeasureError: a loss is not finite.
    """
    seed_global(run.seed, "weights")
    learner, learning = Learner(run, Line(run.target), Network(run.learning.hidden)), run.learning
    generators = {purpose: make_generator("cpu", run.seed, purpose) for purpose in ("data", "time", "noise")}
    optimiser = torch.optim.Adam(learner.network.parameters(), lr=learning.learning_rate, fused=True)
    for step in range(learning.updates):
        if step % _CHUNK == 0:
            batches = draw_batches(learner, min(_CHUNK, learning.updates - step), generators)
        features, square, slope = (part[step % _CHUNK] for part in (batches.features, batches.square, batches.slope))
        out = learner.network(features)
        loss = (out * (square * out - 2 * slope)).mean()
        if not math.isfinite(loss.item()):
            raise MeasureError(f"the training loss is {loss.item()}", step)
        for group in optimiser.param_groups:
            group["lr"] = learning.learning_rate * (1 + math.cos(math.pi * step / learning.updates)) / 2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return learner


@torch.no_grad()
def find_gaps(learner: Learner) -> list[float]:
    """What each decade of sigma adds to the negative ELBO above the entropy, in nats, by quadrature.

    The bound's excess is the integral of sigma E (f - f*)^2 over sigma, f* the exact f. Times left out at the noise's
    end are left out here too.
    """
    last = find_schedule(learner.run.path.schedule)(torch.tensor(1 - learner.run.path.truncation, dtype=torch.float64))
    ends = [*_DECADES, min(float(last.sigma), 1 - 1e-9)]  # most parametrisations of noise are not finite at 1
    return [_integrate_decade(learner, low, high) for low, high in pairwise(ends)]


def _integrate_decade(learner: Learner, first: float, last: float) -> float:
    u = np.linspace(math.log(first), math.log(last), _NODES + 1)
    values = []
    for sigma in np.exp(u).tolist():
        alpha = math.sqrt(1 - sigma**2)
        x, weight = (array[::12] for array in learner.line.spread_nodes(alpha, sigma))
        one = torch.ones((), dtype=torch.float64)
        path = GaussianPath(alpha * one, sigma * one, one, one)
        learned = learner.predict_f(path, torch.from_numpy(x.copy())).numpy()
        exact = learner.line.predict_f(np.asarray(alpha), np.asarray(sigma), x)
        values.append(sigma**2 * float(weight @ (learned - exact) ** 2 / weight.sum()))  # d sigma = sigma d log sigma
    return float(((np.array(values[1:]) + values[:-1]) / 2 * np.diff(u)).sum())


@torch.no_grad()
def measure_distance(learner: Learner, solver: SolverName) -> float:
    """Wasserstein-1 distance of samples to the mixture; the start is stratified, the noise is not.

    Raises:
        MeasureError: a sample is not finite.
    """
    from scipy.special import ndtri

    run, generator = learner.run, make_generator("cpu", learner.run.seed, "sampling")
    times = space_times(run.sampler.steps, run.path.truncation)
    start = torch.from_numpy(ndtri((np.arange(_SAMPLES) + 0.5) / _SAMPLES))

    def draw(_: int) -> Tensor:
        return torch.randn(_SAMPLES, dtype=torch.float64, generator=generator)

    x = solve_reverse(SOLVERS[solver], find_schedule(run.path.schedule), times, start, learner.predict_f, draw)
    samples: Array = np.sort(x.numpy())
    if not np.isfinite(samples).all():
        raise MeasureError(f"samples of {solver} are not finite", run.learning.updates)
    return float(np.abs(samples - learner.line.find_quantiles(_SAMPLES)).mean())


def measure_learned(run: LearnedRun) -> FullRecord:
    """Train, and compare with the optimum and with the data."""
    learner = train(run)
    gaps = find_gaps(learner)
    return FullRecord(
        entropy=learner.line.find_entropy(),
        gap=math.fsum(gaps[1:]),
        gap_data=gaps[0],
        gap_log=math.log2(gaps[0] / gaps[1]),
        w1_sde=measure_distance(learner, run.sampler.solver),
        w1_ode=measure_distance(learner, "ab2"),
        nfe=run.sampler.steps,
        decades=gaps,
    )
