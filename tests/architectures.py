"""Outlines of sites made by hand: a network of 4 channels and 3x3 pixels."""

from typing import Any

from pipeline.schema.architecture import Architecture, Branch, Change, Design, Networks, Norm, Outline, Parameter, Part

TINY = 2e-16
"""What rounding leaves of zero."""


def parameter(name: str, *shape: int, zero: bool = False, shared: bool = False) -> Parameter:
    return Parameter(name=name, shape=list(shape), zero=zero, shared=shared)


def change(built: float, by_channel: float) -> Change:
    """Of two initialisations."""
    return Change(built=[built, built + 0.1], by_channel=[by_channel, by_channel])


CONVOLUTION = Branch(
    kind="convolution", expression="W̃ ∗ X", made="a convolution", of=["X"], shape=[4, 3, 3],
    parameters=[parameter("site.conv.weight[:, 1:]", 4, 4, 3, 3)], change=None,
)  # fmt: skip
BIAS = Branch(
    kind="bias", expression="b", made="one number a channel", of=[], shape=[4, 1, 1],
    parameters=[parameter("site.conv.bias", 4, zero=True)], change=None,
)  # fmt: skip
CHANNEL = Branch(
    kind="channel", expression="ṽ_t = Linear(e_t)", made="Linear(8, 4) of e_t", of=["t"], shape=[4, 1, 1],
    parameters=[
        parameter("site.time.weight", 4, 8), parameter("site.time.bias", 4, zero=True),
        parameter("embed.0.bias", 8, zero=True, shared=True),
    ],
    change=change(0.2, TINY),
)  # fmt: skip
POSITION = Branch(
    kind="position", expression="p̃_t = Linear(e_t)", made="Linear(8, 9) of e_t", of=["t"], shape=[1, 3, 3],
    parameters=[parameter("site.map.weight", 9, 8), parameter("embed.0.bias", 8, zero=True, shared=True)],
    change=change(0.3, 0.4),
)  # fmt: skip


def with_biases(branch: Branch) -> Branch:
    """The same with no parameter that is zero at first."""
    parameters = [one.model_copy(update={"zero": False}) for one in branch.parameters]
    return branch.model_copy(update={"parameters": parameters})


def make_design(remedy: Any, arm: str, *branches: Branch, groups: int = 2, params: int = 1000, **fields: Any) -> Design:
    norm = Norm(
        name="site.norm2", kind="GroupNorm", groups=groups, unit=[4 // groups, 3, 3], over_batch=False,
        parameters=[parameter("site.norm2.weight", 4)],
    )  # fmt: skip
    outline = Outline.model_validate({
        "name": "site", "sites": 8, "prepared": "SiLU(norm1(h))", "shape": [4, 3, 3],
        "branches": [branch.model_dump() for branch in branches], "sum_shape": [4, 3, 3], "norm": norm.model_dump(),
        "times": [0.0, 999.0], "change": change(0.25, 0.35).model_dump(), **fields,
    })  # fmt: skip
    part = Part(name="unet", params=params, flops_image=4000 + params, flops_call=0)
    return Design(remedy=remedy, arm=arm, parts=[part], outline=outline)


def make_architecture(case: str = "digits", made: str = "a convolution", arm: str = "baseline") -> Architecture:
    """A study with its baseline and one design a remedy; what the convolution is made of, and the baseline's arm."""
    base = (CONVOLUTION.model_copy(update={"made": made}), BIAS, CHANNEL)
    designs = [
        make_design("none", arm, *base),
        make_design("position", "position=mlp", *base, POSITION, params=1100),
        make_design("zero_bias", "zero_bias=conv", *base[:2], with_biases(CHANNEL)),
        make_design("groups", "groups=1", *base, groups=1),
    ]
    return Architecture(networks=[Networks(study="ddpm", case=case, arms=[], designs=designs)])
