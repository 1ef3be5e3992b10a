"""Schema of records/architecture.json: each arm's network and its cost, and one site under each remedy."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.schema.arm import ArmString
from pipeline.schema.base import Strict

PATH = Path("records") / "architecture.json"

Remedy = Literal["none", "position", "zero_bias", "groups"]


EXACT = 1e-12
"""Relative changes below this are zero up to float64 rounding."""


class Part(Strict):
    """A part of a network. A forward pass of n images takes n * flops_image + flops_call FLOPs.

    Convolutions, matrix products and attention count; a multiply-add counts as two FLOPs.
    """

    name: Literal["stem", "field", "head", "unet"] = Field(
        description="field: one evaluation of the ODE function; unet: with one level per image, as in training"
    )
    params: int = Field(ge=0, description="number of trained parameters")
    flops_image: int = Field(ge=0, description="FLOPs per image")
    flops_call: int = Field(ge=0, description="FLOPs per call, whatever the number of images; e.g. of an MLP of t")


class Built(Strict):
    """The network of one arm."""

    arm: ArmString
    parts: list[Part]


class Parameter(Strict):
    """A parameter of a branch, or a slice of one."""

    name: str = Field(description="name in the network's state_dict, with a slice as in Python")
    shape: list[int]
    zero: bool = Field(description="whether all its values are zero at initialisation")
    shared: bool = Field(description="whether other sites use it too")

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


class Change(Strict):
    """Relative change of the output n of the norm after a site, from time t_0 to t_1.

    ||n(t_1) - n(t_0)|| / ||n(t_0)|| in float64, one value per initialisation.
    """

    built: list[float] = Field(min_length=1, description="with the network's own norm")
    by_channel: list[float] = Field(min_length=1, description="with instance norm in its place")


class Branch(Strict):
    """One term of a site's sum."""

    kind: Literal["convolution", "bias", "channel", "position"]
    expression: str = Field(description="formula in the paper's symbols")
    made: str = Field(description="how it is computed, and from what")
    of: list[Literal["X", "t"]] = Field(description="what it depends on (measured)")
    shape: list[int] = Field(
        min_length=3, max_length=3, description="C, H, W; 1 on an axis on which it cannot vary (measured)"
    )
    parameters: list[Parameter]
    change: Change | None = Field(description="change when t varies in this branch alone; null if it ignores t")


class Norm(Strict):
    """The norm that follows a site."""

    name: str = Field(description="name of the module")
    kind: str = Field(description="class of the module")
    groups: int = Field(ge=1, description="number of groups of channels (measured)")
    unit: list[int] = Field(
        min_length=3, max_length=3, description="C, H, W of a normalisation unit, which shares mean and deviation"
    )
    over_batch: bool = Field(description="whether a unit spans all images of a batch")
    parameters: list[Parameter]


class Outline(Strict):
    """A site: the branches that it sums, and the norm that follows."""

    name: str = Field(description="name of the module that holds the site")
    sites: int = Field(ge=1, description="number of such sites in the network")
    prepared: str = Field(description="how its input X is computed")
    shape: list[int] = Field(min_length=3, max_length=3, description="C, H, W of its input X")
    branches: list[Branch]
    sum_shape: list[int] = Field(min_length=3, max_length=3, description="C, H, W of the sum Z")
    norm: Norm
    times: list[float] = Field(min_length=2, max_length=2, description="t_0 and t_1 of the changes")
    change: Change


class Design(Built):
    """A network of the schematic: the baseline, or the baseline with one remedy."""

    remedy: Remedy
    outline: Outline


class Networks(Strict):
    """The networks of a study on a case."""

    study: str
    case: str
    arms: list[Built] = Field(description="networks of the arms in params.yaml")
    designs: list[Design] = Field(description="networks of the schematic; empty if the baseline has no site")


class Architecture(Strict):
    """records/architecture.json."""

    networks: list[Networks]
