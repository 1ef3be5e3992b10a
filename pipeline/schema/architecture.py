"""records/architecture.json: what each arm's network consists of and costs, and a site under each remedy, as built."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.schema.arm import ArmString
from pipeline.schema.base import Strict

PATH = Path("records") / "architecture.json"

Remedy = Literal["none", "position", "zero_bias", "groups"]


EXACT = 1e-12
"""Relative changes below this are zero up to the rounding of float64."""


class Part(Strict):
    """A part of a network. A forward pass of n images takes n flops_image + flops_call.

    FLOPs are those of convolutions, matrix products and attention; a multiplication and an addition are two.
    """

    name: Literal["stem", "field", "head", "unet"] = Field(
        description="field: one evaluation of the ODE function; unet: with a level for each image, as in training"
    )
    params: int = Field(ge=0, description="trained numbers in it")
    flops_image: int = Field(ge=0, description="FLOPs that each image of a batch costs")
    flops_call: int = Field(ge=0, description="FLOPs whatever the number of images, such as those of an MLP of t")


class Built(Strict):
    """The network of an arm."""

    arm: ArmString
    parts: list[Part]


class Parameter(Strict):
    """A parameter, or the slice of one that a branch takes."""

    name: str = Field(description="in the network's state_dict; a slice as in Python")
    shape: list[int]
    zero: bool = Field(description="whether all of it is zero at initialisation")
    shared: bool = Field(description="whether other sites use it too")

    @property
    def count(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)


class Change(Strict):
    """Relative change of the output of the norm behind a site when t goes from the first to the last of its times.

    ||n(t_1) - n(t_0)|| / ||n(t_0)|| in float64, for each initialisation.
    """

    built: list[float] = Field(min_length=1, description="with the norm as it is")
    by_channel: list[float] = Field(min_length=1, description="were it over each channel of an image by itself")


class Branch(Strict):
    """One of the terms that a site adds up."""

    kind: Literal["convolution", "bias", "channel", "position"]
    expression: str = Field(description="in the paper's symbols")
    made: str = Field(description="by what, and of what")
    of: list[Literal["X", "t"]] = Field(description="what it depends on, measured")
    shape: list[int] = Field(
        min_length=3, max_length=3, description="C, H, W; 1 where it cannot vary, whatever its parameters (measured)"
    )
    parameters: list[Parameter]
    change: Change | None = Field(description="with t changing in this branch alone; null where it does not know t")


class Norm(Strict):
    """The normalisation that follows a site."""

    name: str = Field(description="of the module")
    kind: str = Field(description="its class")
    groups: int = Field(ge=1, description="into which it divides the channels (measured)")
    unit: list[int] = Field(
        min_length=3, max_length=3, description="C, H, W of the values that have their mean and deviation in common"
    )
    over_batch: bool = Field(description="whether these are of all images of a batch")
    parameters: list[Parameter]


class Outline(Strict):
    """A site: its branches, which are added up, and the norm that takes the sum."""

    name: str = Field(description="of the module that holds it")
    sites: int = Field(ge=1, description="like it in the network")
    prepared: str = Field(description="how its input X is made")
    shape: list[int] = Field(min_length=3, max_length=3, description="C, H, W of its input X")
    branches: list[Branch]
    sum_shape: list[int] = Field(min_length=3, max_length=3, description="C, H, W of Z")
    norm: Norm
    times: list[float] = Field(min_length=2, max_length=2, description="from where to where t changes")
    change: Change


class Design(Built):
    """One of the networks that the schematic shows: the baseline, or the baseline with one remedy."""

    remedy: Remedy
    outline: Outline


class Networks(Strict):
    """A study on a case."""

    study: str
    case: str
    arms: list[Built] = Field(description="those of params.yaml")
    designs: list[Design] = Field(description="none where the baseline has no site")


class Architecture(Strict):
    """records/architecture.json."""

    networks: list[Networks]
