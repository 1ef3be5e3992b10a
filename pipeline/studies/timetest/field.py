"""The time test of an ODE function: it learns the wind of a task, and is scored on test images at 16 times."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.compute.seeding import make_generator, seed_global
from pipeline.ode.solve import SolveError, solve
from pipeline.schema.study import MeasureError
from pipeline.studies.node.derived import ode_width
from pipeline.studies.node.network import OdeFunction, make_method
from pipeline.studies.node.study import NodeNetwork
from pipeline.studies.node.time_awareness import measure_time_awareness
from pipeline.studies.timetest.score import Outcome, Score, average_share, fit, score_outputs
from pipeline.studies.timetest.study import FieldRun, TimetestTraining
from pipeline.studies.timetest.wind import SPEED, Wind, load_images

_TIMES = 4
"""Times of a training step."""
_GRID = (torch.arange(16, dtype=torch.float64) + 0.5) / 16
"""Times of the score."""
_WINDOWS = (0.0, 0.25, 0.5, 0.75)
"""Where solves start; each takes 1 / SPEED of the time."""
_FLOW_IMAGES, _SHARE_IMAGES = 120, 16


class _BatchNorm(nn.BatchNorm2d):
    """Batch norm of images of several times, each time with statistics of its own; one time after the other.

    With several times under one mean and variance it would see the time.
    """

    times = 1

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [T B, C, H, W]."""
        if self.times == 1:
            return super().forward(x)
        if self.track_running_stats:  # each time enters the running averages
            return torch.cat(list(map(super().forward, x.chunk(self.times))))
        # All images and pixels of a time are one sample of a group norm with as many groups as channels.
        samples = x.unflatten(0, (self.times, -1)).transpose(1, 2)  # [T, C, B, H, W]
        out = functional.group_norm(samples, self.num_features, self.weight, self.bias, self.eps)
        return out.transpose(1, 2).flatten(0, 1)


class FieldNetwork(nn.Module):
    """An ODE function between two 1x1 convolutions: images [B, 1, H, W] at t, [] or [B], to a field of the same shape.

    Initial weights are PyTorch's defaults, drawn from torch's global generator, unless the network's fields say else.
    """

    def __init__(self, network: NodeNetwork, image_size: int) -> None:
        super().__init__()
        width = ode_width(network)
        self.lift = nn.Conv2d(1, width, 1)
        self.field = OdeFunction(network, image_size)
        self.lower = nn.Conv2d(width, 1, 1)
        self.norms: list[_BatchNorm] = []
        if network.norm == "batch":
            running = network.batch_statistics == "running"
            self.norms = [_BatchNorm(width, track_running_stats=running) for _ in range(3)]
            self.field.norm1, self.field.norm2, self.field.norm3 = self.norms

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        # A 1x1 convolution from or to one channel is a product; as such it takes a third of the time on a CPU.
        h = torch.addcmul(_spread(self.lift.bias), _spread(self.lift.weight), x)
        h = self.field(t, h)
        out: Tensor = (h * _spread(self.lower.weight)).sum(1, keepdim=True) + _spread(self.lower.bias)
        return out


def _spread(values: Tensor | None) -> Tensor:
    """Values of channels, as [1, C, 1, 1]."""
    assert values is not None
    return values.view(1, -1, 1, 1)


def evaluate_times(network: FieldNetwork, t: Tensor, x: Tensor) -> Tensor:
    """The field at times t [T], each on images of its own, x [T, B, 1, H, W]; the same shape.

    Batch norm takes the statistics of the images of one time.
    """
    for norm in network.norms:
        norm.times = len(t)
    out: Tensor = network(t.repeat_interleave(x.shape[1]), x.flatten(0, 1))
    for norm in network.norms:
        norm.times = 1
    return out.view_as(x)


class _Window(nn.Module):
    """The field from a start time on, in units of a window: with the speed, one window takes a time of 1."""

    def __init__(self, network: FieldNetwork, start: float) -> None:
        super().__init__()
        self.network, self.start = network, start

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        out: Tensor = self.network(self.start + t / SPEED, x)
        return out


def _measure_share(network: FieldNetwork, x: Tensor) -> float:
    """Share of variance that time makes behind the norms, mean over both sites; x [B, 1, H, W], float64."""
    exact = deepcopy(network).double()
    with torch.no_grad():
        return average_share(measure_time_awareness(exact.field, exact.lift(x)).site_share)


@torch.no_grad()
def solve_windows(network: FieldNetwork, wind: Wind, x: Tensor) -> tuple[float, Score]:
    """Solve from each start time; returns the mean NFE and the score of the end states.

    A field without the time ends in the same place from every start, so R >= 1 holds here too.

    Args:
        x: test images [B, 1, H, W], float64; the batch shares its steps.

    Raises:
        SolveError: a solve gave up.
    """
    method, ends, nfe = make_method(network.field.network), [], []
    for start in _WINDOWS:
        solution = solve(_Window(network, start), x.float(), method)
        ends.append(solution.x)
        nfe.append(solution.nfe)
    exact = torch.stack([wind.flow(start, start + 1 / SPEED, x) for start in _WINDOWS])
    return sum(nfe) / len(nfe), score_outputs(torch.stack(ends), exact)


@torch.no_grad()
def score_field(field: Callable[[Tensor, Tensor], Tensor], wind: Wind, x: Tensor) -> Score:
    """Score a field (t, x) on images x [B, 1, H, W], float64, at the middles of 16 equal parts of [0, 1]."""
    outputs = torch.stack([field(t, x.float()) for t in _GRID.float()])
    return score_outputs(outputs, wind.velocity(_GRID, x[None]))


def learn_wind(
    network: nn.Module,
    evaluate: Callable[[Tensor, Tensor], Tensor],
    wind: Wind,
    images: Tensor,
    training: TimetestTraining,
    seed: int,
) -> tuple[list[float], float]:
    """Train a network on the wind at training images [N, 1, H, W], float64; returns the losses and the blind optimum.

    A step draws one u ~ U(0, 1) and takes the times (k + u) / 4, each with images of its own. Batch norm has the
    statistics of the images of one time, as in an ODE solve, whose batch shares t: with several times in a batch it
    would see the time.

    Args:
        evaluate: the network at times [T], each on images of its own [T, B, 1, H, W].

    Raises:
        MeasureError: the loss is not finite.
    """
    everywhere = wind.velocity(_GRID, images[None])
    square = everywhere.square().mean().item()
    generator = make_generator("cpu", seed, "batches")
    inputs = images.float()

    def compute_loss(_: int) -> Tensor:
        t = (torch.arange(_TIMES) + torch.rand(1, generator=generator)) / _TIMES
        chosen = torch.randint(len(inputs), (_TIMES, training.batch_size // _TIMES), generator=generator)
        x = inputs[chosen]  # [T, B, 1, H, W]
        loss: Tensor = (evaluate(t, x) - wind.velocity(t, x)).square().mean() / square
        return loss

    losses = fit(network, compute_loss, training)
    return losses, score_outputs(everywhere, everywhere).floor / square


def run_field_test(run: FieldRun) -> Outcome:
    """Train and score an ODE function.

    Raises:
        MeasureError: the loss is not finite, or a solve gave up.
    """
    training, size = run.training, run.task.image_size
    train, test = load_images(size)
    wind = Wind(run.case, run.network.padding == "circular")
    seed_global(run.seed, "initialisation")
    network = FieldNetwork(run.network, size)
    share_initial = _measure_share(network, test[:_SHARE_IMAGES])
    losses, blind = learn_wind(network, partial(evaluate_times, network), wind, train, training, run.seed)
    network.eval()  # which matters under running averages alone
    try:
        nfe, flow = solve_windows(network, wind, test[:_FLOW_IMAGES])
    except SolveError as error:
        raise MeasureError(f"the solve of the trained field: {error}", training.steps) from None
    return Outcome(
        score=score_field(network, wind, test),
        told=0.0,
        blind=blind,
        losses=losses,
        share_initial=share_initial,
        share=_measure_share(network, test[:_SHARE_IMAGES]),
        nfe=nfe,
        flow=flow,
        num_params=sum(value.numel() for value in network.parameters()),
    )
