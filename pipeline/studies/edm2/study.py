"""The study `edm2`: magnitude preservation and post-hoc averages (Karras et al. 2024), where each can be checked."""

from typing import Any, Literal

from pydantic import Field

from pipeline.schema.arm import Arm
from pipeline.schema.base import SpecError, Strict
from pipeline.schema.study import MeasuredRecord, Run, Study

POST_HOC, BLOCK, LADDER = "post_hoc", "block", "ladder"
"""The cases."""
Config = Literal["a", "b", "c", "d", "e", "f", "g"]


class Averages(Strict):
    """A training without a network: states whose law is known, and what is stored of their averages."""

    trajectory: Literal["noise", "walk", "decaying"] = Field(
        "noise",
        description="states after each step: noise: independent; walk: a sum of independent steps; decaying: the same, "
        "step t of the size 1 / sqrt(t)",
    )
    snapshots: int = Field(16, ge=1, le=256, description="times at which both tracked averages are stored, evenly")
    averaged_steps: int = Field(4096, ge=16, le=65_536, description="optimiser steps")
    values: int = Field(2048, ge=1, le=65_536, description="parameters, independent of each other")


class PostHocRun(Run):
    """Averages of one trajectory; the seed is the trajectory's."""

    study: Literal["edm2"] = "edm2"
    averages: Averages


class Block(Strict):
    """An untrained residual block of EDM2, and what it is fed."""

    gain: float = Field(
        0.2,
        gt=0,
        le=10,
        description="g of the factor 1 + g e on each channel, e of mean square 1; it is 0 at first in EDM2",
    )
    width: int = Field(16, ge=4, le=256, multiple_of=4, description="channels; four groups")
    pixels: int = Field(8, ge=2, le=64, description="a side")
    inputs: int = Field(8, ge=2, le=256, description="feature maps, standard normal")


class BlockRun(Run):
    """A block with every injection of the noise level and every norm behind it; the seed is the weights'."""

    study: Literal["edm2"] = "edm2"
    block: Block


class LadderNetwork(Strict):
    """A U-Net on one rung of EDM2's ladder of configurations, each with all that those before it have."""

    config: Config = Field(
        "g",
        description="a: EDM's, with biases, group norms, scale and shift; b: noise levels and learned weighting of "
        "EDM2; c: no biases, cosine attention, plain norms, Fourier features, a gain; d: magnitude-preserving "
        "weights; e: forced weight normalisation, and a rate that falls; f: pixel norms in place of group norms; g: "
        "magnitude-preserving activations, sums and concatenations",
    )
    channels: int = Field(16, ge=4, le=1024, multiple_of=4, description="channels at full resolution")
    levels: int = Field(2, ge=1, le=3, description="resolutions; channels double below the first")


class LadderTraining(Strict):
    """The training recipe: EDM's loss, Adam with betas 0.9 and 0.99, two power-function averages."""

    steps: int = Field(300, ge=20, description="optimiser steps")
    batch_size: int = Field(32, ge=1, description="images per step")
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="after the ramp; null: 0.002, and from config d on, where it is relative to a weight's size, 0.01",
    )
    warmup: int = Field(20, ge=0, description="steps over which the rate rises from 0")
    decay_from: int = Field(100, ge=1, description="step from which config e and later divide the rate by sqrt(i)")
    rate_decay: bool = Field(True, description="false: they do not")
    stored: int = Field(16, ge=2, description="snapshots of the averages")


class LadderRun(Run):
    """A diffusion model on the digits."""

    study: Literal["edm2"] = "edm2"
    network: LadderNetwork
    training: LadderTraining


class LengthError(Strict):
    """A post-hoc average of one length against the one that was tracked, relative to its size."""

    length: float
    error: float = Field(ge=0, description="measured")
    predicted: float = Field(ge=0, description="expected of this trajectory, from the weights of the steps")
    profile: float = Field(ge=0, description="of the profile itself: expected of independent states")


class BlockCell(Strict):
    """How much one block's output changes with the noise level, relative to its size."""

    inject: Literal["gain", "offset", "position"]
    norm: Literal["none", "pixel", "layer", "group", "instance", "batch"]
    change: float = Field(ge=0)
    vanishes: bool = Field(description="whether the norm cancels it: by channel, and no factor changes sign")


class Moment(Strict):
    """Root mean squares of weights, by layer, and of activations on test images, by block."""

    step: int
    weights: list[float]
    activations: list[float]


class LengthLoss(Strict):
    """Test loss of a post-hoc average."""

    length: float
    loss: float


class Edm2Record(MeasuredRecord):
    """What was measured on a case; null and empty: it belongs to another case."""

    error_02: float | None = Field(None, ge=0, description="relative error of the post-hoc average of length 0.02")
    error_03: float | None = Field(None, ge=0, description="of length 0.03")
    error_07: float | None = Field(None, ge=0, description="of length 0.07")
    error_15: float | None = Field(None, ge=0, description="of length 0.15")
    error_20: float | None = Field(None, ge=0, description="of length 0.20")
    error_25: float | None = Field(None, ge=0, description="of length 0.25")
    error_stored: float | None = Field(None, ge=0, description="largest at the lengths that were tracked, 0.05 and 0.1")
    deviation: float | None = Field(None, ge=0, description="largest |error / predicted - 1| over the six lengths")
    lengths: list[LengthError] = Field(default_factory=list)
    lost: float | None = Field(None, ge=0, description="largest change of a block whose norm cancels the level")
    kept: float | None = Field(None, ge=0, description="smallest change of the other blocks")
    change_initial: float | None = Field(
        None, ge=0, description="change of the block, or the U-Net, with the level at first, when gains are 0"
    )
    change: float | None = Field(
        None, ge=0, description="change of EDM2's block at the gain; of the U-Net's output F, absolute, trained"
    )
    change_instance: float | None = Field(None, ge=0, description="of the block with instance norm behind the gain")
    change_batch: float | None = Field(None, ge=0, description="with batch norm behind it")
    flipped: float | None = Field(None, ge=0, le=1, description="share of channels whose factor is negative somewhere")
    cells: list[BlockCell] = Field(default_factory=list)
    weight_rms: float | None = Field(None, ge=0, description="stored weights, mean over layers, trained")
    weight_slope: float | None = Field(None, description="d log of that / d log step, after the ramp")
    activation_rms: float | None = Field(None, ge=0, description="block outputs, mean over blocks, trained")
    activation_slope: float | None = Field(None, description="d log of that / d log step, after the ramp")
    loss: float | None = Field(None, ge=0, description="EDM's loss on test images, last weights; 1 for F = 0")
    loss_averaged: float | None = Field(None, ge=0, description="of the best post-hoc average")
    best_length: float | None = Field(None, description="its length")
    post_hoc_error: float | None = Field(
        None, ge=0, description="of the post-hoc average of length 0.2 against the tracked one, relative"
    )
    post_hoc_share: float | None = Field(None, ge=0, description="that over what its profile's error predicts")
    num_params: int | None = Field(None, ge=1, description="number of trained parameters")
    layers: list[str] = Field(default_factory=list, description="names of `Moment.weights`")
    blocks: list[str] = Field(default_factory=list, description="names of `Moment.activations`")
    drift: list[Moment] = Field(default_factory=list)
    length_losses: list[LengthLoss] = Field(default_factory=list)


def _measure(run: PostHocRun | BlockRun | LadderRun) -> Edm2Record:
    from pipeline.studies.edm2.measure import measure_edm2

    return measure_edm2(run)


def _check_arm(run: Any, arm: Arm, _: Any) -> None:
    """Refuse an override without effect, and a warmup that leaves no steps to follow."""
    if not isinstance(run, LadderRun):
        return
    if 2 * run.training.warmup > run.training.steps:
        raise SpecError(
            f"arm {str(arm)!r}: warmup = {run.training.warmup}: sizes are followed after it, so that it may take at "
            f"most half of the {run.training.steps} steps"
        )
    for name in ("decay_from", "rate_decay"):
        if name in arm.overrides and run.network.config < "e":
            raise SpecError(f"arm {str(arm)!r}: {name} changes nothing below config=e")
    if "decay_from" in arm.overrides and not run.training.rate_decay:
        raise SpecError(f"arm {str(arm)!r}: decay_from changes nothing with rate_decay=false")


STUDY = Study(
    name="edm2",
    run=LadderRun,
    others={POST_HOC: PostHocRun, BLOCK: BlockRun},
    record=Edm2Record,
    measure=_measure,
    cases=(POST_HOC, BLOCK, LADDER),
    check_arm=_check_arm,
    views="pipeline.studies.edm2.views",
    costs="pipeline.studies.edm2.cost",
)
