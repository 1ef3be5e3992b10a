"""The time test of a user's network: trained here as ours are, does it use the time that it is told?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.compute.seeding import seed_global
from pipeline.diffusion.schedule import make_schedule
from pipeline.layers.foreign import DENOISER, FUNCTION, Call, ForeignNetwork, Form, make_network
from pipeline.run.inputs import ROOT
from pipeline.schema.base import SpecError, validate
from pipeline.schema.diffusion import Diffusion
from pipeline.schema.mistakes import find_meant
from pipeline.schema.study import find_study, load_study_spec, resolve_baseline
from pipeline.studies.timetest.field import learn_wind, score_field
from pipeline.studies.timetest.score import Score, find_half, scale_losses
from pipeline.studies.timetest.study import WHITE_NOISE, TimetestTraining
from pipeline.studies.timetest.white_noise import draw_inputs, find_optima, learn_noise, score_denoiser
from pipeline.studies.timetest.wind import Wind, load_images

CASES = ("there_and_back", "turning_wind", WHITE_NOISE)
"""Where the time is worth something."""
Scale = Literal["levels", "unit"]
"""What the network is told: 0 to 999, or 0 to 1."""
SCALES: tuple[Scale, ...] = ("levels", "unit")
_CHANNELS, _IMAGE_SIZE = 1, 8
_MOST = Diffusion().levels - 1


@dataclass(frozen=True)
class Tested:
    """One trained network."""

    score: Score
    half: float | None
    """First step at which the training loss has come half the way from the blind to the told optimum; None: never."""


@dataclass(frozen=True)
class TimeUse:
    """What a network makes of the time, over seeds."""

    name: str
    case: str
    call: str
    """How the network was called."""
    steps: int
    """Of each training."""
    num_params: int
    by_seed: dict[int, Tested]


@dataclass(frozen=True)
class _Task:
    """How a network is made, called and trained."""

    factory: Callable[..., Any]
    name: str
    case: str
    time: str | None
    scale: Scale
    lift: int | None
    training: TimetestTraining

    def make(self) -> "_Lifted":
        """The network, with initial weights from torch's global generator."""
        channels = self.lift or _CHANNELS
        inner = make_network(self.factory, self.name, channels, _IMAGE_SIZE)
        told = _MOST if self.case == WHITE_NOISE else 1
        scale = (_MOST if self.scale == "levels" else 1) / told
        forms: tuple[Form, ...] = DENOISER if self.case == WHITE_NOISE else FUNCTION
        shape = (channels, _IMAGE_SIZE, _IMAGE_SIZE)
        return _Lifted(ForeignNetwork(inner, shape, forms, self.name, self.time, scale), self.lift)


class _Lifted(nn.Module):
    """A network (x [B, 1, H, W], t), between two 1x1 convolutions if it wants another number of channels."""

    def __init__(self, network: ForeignNetwork, lift: int | None) -> None:
        super().__init__()
        self.network = network
        self.lift = nn.Conv2d(_CHANNELS, lift, 1) if lift else nn.Identity()
        self.lower = nn.Conv2d(lift, _CHANNELS, 1) if lift else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.lower(self.network.compute(self.lift(x), t))
        return out


def _test_field(task: _Task, network: _Lifted, seed: int) -> Tested:
    """Train on a wind; each of the times of a step is a call of its own, as in an ODE solve."""
    train, test = load_images(_IMAGE_SIZE)
    wind = Wind(task.case, circular=False)

    def evaluate(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([network(images, time) for time, images in zip(t, x, strict=True)])

    losses, blind = learn_wind(network.train(), evaluate, wind, train, task.training, seed)
    network.eval()
    score = score_field(lambda t, x: network(x, t), wind, test)
    return Tested(score, find_half(scale_losses(losses, 0.0, blind)))


def _test_denoiser(task: _Task, network: _Lifted, seed: int) -> Tested:
    """Train on white noise; each image of a step has a level of its own."""
    schedule = make_schedule(Diffusion())
    losses = learn_noise(network, schedule, _IMAGE_SIZE, task.training, seed)
    network.eval()
    told, blind = find_optima(schedule)
    score = score_denoiser(network, schedule, draw_inputs(_IMAGE_SIZE))
    return Tested(score, find_half(scale_losses(losses, told, blind)))


def _require(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SpecError(f"{option} = {value!r}{find_meant(value, allowed)}: allowed are {', '.join(allowed)}")


def _read_training(case: str, steps: int | None) -> TimetestTraining:
    """The recipe of a case; longer or shorter if steps are given."""
    study = find_study("timetest")
    training: TimetestTraining = resolve_baseline(study, load_study_spec(ROOT, "timetest"), case).training  # type: ignore[attr-defined]
    if steps is None:
        return training
    return validate(TimetestTraining, training.model_dump() | {"steps": steps}, "the time test")


def _plan(
    factory: Callable[..., Any], case: str | None, time: str | None, scale: str | None, steps: int | None,
    lift: int | None, name: str,
) -> tuple[_Task, str]:  # fmt: skip
    """The task, and how the network will be called: guessed where the user says nothing."""
    inner = make_network(factory, name, lift or _CHANNELS, _IMAGE_SIZE)
    call = Call(inner, name, time)
    case = case or ("there_and_back" if call.time_first else WHITE_NOISE)
    _require("case", case, CASES)
    scale = scale or ("levels" if case == WHITE_NOISE else "unit")
    _require("scale", scale, SCALES)
    order = (call.time, call.data) if call.time_first else (call.data, call.time)
    said = f"forward({', '.join(order)}), {call.time} from 0 to {_MOST if scale == 'levels' else 1}"
    kind: Scale = "levels" if scale == "levels" else "unit"
    return _Task(factory, name, case, call.time, kind, lift, _read_training(case, steps)), said


def test_time(
    factory: Callable[..., Any],
    case: str | None = None,
    *,
    seeds: int = 5,
    steps: int | None = None,
    time: str | None = None,
    scale: str | None = None,
    lift: int | None = None,
    name: str | None = None,
    on_seed: Callable[[int], object] = lambda seed: None,
) -> TimeUse:
    """Train a user's network, once a seed, on a task in which losing the time costs a known amount, and score it.

    An ODE function (t, x) learns a wind, a denoiser (x, t) DDPM's noise in white noise; both are told t, map images
    [B, 1, 8, 8] to the same shape, and are scored in evaluation mode. Initial weights come from torch's global
    generator, seeded before the factory is called.

    Args:
        factory: makes the network; it gets `channels` and `image_size` if its signature has them.
        case: one of `CASES`; None: white_noise if the data come before the time in `forward`, else there_and_back.
        seeds: how many trainings.
        steps: optimiser steps; None: as ours.
        time: name of the argument that is the time; None: by its name.
        scale: what it is told: `levels`, 0 to 999, or `unit`, 0 to 1; None: levels on white noise, else unit.
        lift: channels that the network wants; 1x1 convolutions before and behind make them.
        name: for messages.
        on_seed: callback before each training.

    Raises:
        SpecError: an argument is not allowed, or the network cannot be made or called.
        MeasureError: a training loss is not finite.
    """
    said = name or str(getattr(factory, "__name__", "the factory"))
    if seeds < 1 or (lift is not None and lift < 1):
        raise SpecError(f"seeds = {seeds}, lift = {lift}: at least 1")
    with torch.random.fork_rng(devices=[]):
        task, call = _plan(factory, case, time, scale, steps, lift, said)
        found, num_params = {}, 0
        for seed in range(seeds):
            on_seed(seed)
            seed_global(seed, "initialisation")
            network = task.make()
            num_params = sum(value.numel() for value in network.parameters())
            try:
                found[seed] = (_test_denoiser if task.case == WHITE_NOISE else _test_field)(task, network, seed)
            except RuntimeError as error:
                raise SpecError(f"{said}: its training fails: {str(error).partition(chr(10))[0]}") from error
    return TimeUse(said, task.case, call, task.training.steps, num_params, found)


test_time.__test__ = False  # type: ignore[attr-defined]  # pytest's mark: the name is no test's
