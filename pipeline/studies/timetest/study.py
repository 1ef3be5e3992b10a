"""The study `timetest`: tasks on which losing the time costs a known amount. Its fields, their checks, its record."""

from types import SimpleNamespace
from typing import Any, Literal

from pydantic import Field

from pipeline.schema.arm import Arm
from pipeline.schema.base import SpecError, Strict
from pipeline.schema.diffusion import Diffusion
from pipeline.schema.study import MeasuredRecord, Run, Study
from pipeline.studies.ddpm.study import STUDY as DDPM
from pipeline.studies.ddpm.study import DdpmNetwork
from pipeline.studies.node.study import STUDY as NODE
from pipeline.studies.node.study import NodeNetwork

WHITE_NOISE = "white_noise"
"""The case for U-Nets; all others are for ODE functions."""
_OF_FIELDS = (
    "norm",
    "time",
    "embedding_input",
    "embedding_sites",
    "embedding_activation",
    "position",
    "position_sites",
    "position_init",
    "position_mean",
    "zero_bias",
    "weight_std",
    "weight_distribution",
    "weight_std_time",
    "padding",
    "groups",
    "activation",
    "channels",
    "solver",
    "implementation",
    "rtol",
    "atol",
    "max_steps",
)
"""Fields of a classifier's network that its ODE function alone has."""
_NOT_OF_UNETS = ("replicate", "weights", "up_attention", "magnitude")
"""Fields of a U-Net without effect here: it is trained here, with plain layers, and attention in the middle alone."""


class Task(Strict):
    """What the network is to learn."""

    image_size: int = Field(8, ge=4, le=64, description="side in pixels; the digits are enlarged bilinearly beyond 8")


class TimetestTraining(Strict):
    """The training recipe: Adam, linear warm-up, then a cosine to 0."""

    steps: int = Field(500, ge=20, multiple_of=10, description="optimiser steps")
    batch_size: int = Field(
        32, ge=4, multiple_of=4, description="inputs per step; ODE functions: a quarter at each of 4 times"
    )
    learning_rate: float = Field(5e-3, gt=0, description="learning rate after the warm-up")
    warmup: int = Field(0, ge=0, description="steps over which the learning rate rises from 0")
    clip: float | None = Field(None, gt=0, description="maximum of the gradient's global norm; null: no limit")


class FieldRun(Run):
    """A run of an ODE function."""

    study: Literal["timetest"] = "timetest"
    network: NodeNetwork
    task: Task
    training: TimetestTraining


class NoiseRun(Run):
    """A run of a U-Net."""

    study: Literal["timetest"] = "timetest"
    unet: DdpmNetwork
    diffusion: Diffusion
    task: Task
    training: TimetestTraining

    @property
    def network(self) -> DdpmNetwork:
        """The U-Net, as in runs of the study `ddpm`."""
        return self.unet


class TimetestRecord(MeasuredRecord):
    """How much of the time a trained network uses, against the exact floor of networks without it.

    f is the network's output, v its target, both at the same inputs and at every time of a grid; f_mean and v_mean are
    their means over the times. The floor is the mean variance of v over the times: no network without the time has a
    lower error.
    """

    r: float | None = Field(ge=0, description="mean |f - v|^2 / floor: 1 or more without the time; null: no floor")
    r_centred: float | None = Field(
        ge=0,
        description="mean |(f - f_mean) - (v - v_mean)|^2 / floor: 1 without the time, whatever f is; null likewise",
    )
    error: float = Field(ge=0, description="mean |f - v|^2 / mean v^2")
    change: float = Field(ge=0, description="largest change of an output value between two times")
    share_initial: float = Field(
        ge=0, description="share of variance that time makes behind the norms, untrained, float64"
    )
    share: float = Field(ge=0, description="the same, trained")
    half_step: float | None = Field(
        description="first step at which the training loss has come half the way from the blind to the told optimum, "
        "means of 10 steps; null: never"
    )
    half_log: float | None = Field(description="log2 of half_step")
    nfe: float | None = Field(description="function evaluations of a solve over a quarter of the time; null: no ODE")
    flow_r: float | None = Field(
        description="R of that solve's end states, for the floor of the exact flow; null likewise"
    )
    flow_floor: float | None = Field(description="that floor")
    floor: float = Field(ge=0, description="mean variance of the target over the times of the grid")
    told: float = Field(ge=0, description="exact training loss of the best network that is told the time")
    blind: float = Field(ge=0, description="the same without the time")
    is_blind: bool = Field(description="whether equation 5 says that the network loses the time")
    num_params: int = Field(ge=1, description="number of trained parameters")
    losses: list[float] = Field(
        description="training loss, means of 10 steps, 0 for the told and 1 for the blind optimum"
    )


def _check_arm(run: Any, arm: Arm, spec: Any) -> None:
    """Refuse an override without effect, so that one variant has one name."""
    unet = isinstance(run, NoiseRun)
    for name, value in arm.overrides.items():
        if name in ("function", "denoiser"):
            raise SpecError(f"arm {str(arm)!r}: test a network of your own with `python -m pipeline timetest {value}`")
        of_network = name in type(run.network).model_fields
        if of_network and (name in _NOT_OF_UNETS if unet else name not in _OF_FIELDS):
            raise SpecError(f"arm {str(arm)!r}: {name} changes nothing in {run.case}")
    if unet:
        DDPM.check_arm(run, arm, SimpleNamespace(imports=()))
    else:
        NODE.check_arm(run, arm, spec)


def _measure(run: Any) -> TimetestRecord:
    from pipeline.studies.timetest.measure import measure_timetest

    return measure_timetest(run)


STUDY = Study(
    name="timetest",
    run=FieldRun,
    others={WHITE_NOISE: NoiseRun},
    record=TimetestRecord,
    measure=_measure,
    cases=("there_and_back", "turning_wind", "constant", WHITE_NOISE),
    coordinates={"groups": lambda run: min(run.network.groups, run.network.channels)},
    check_arm=_check_arm,
    views="pipeline.studies.timetest.views",
    costs="pipeline.studies.timetest.cost",
)
