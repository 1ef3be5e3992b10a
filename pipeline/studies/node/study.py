"""The study `node`: an image classifier with a neural ODE. Its fields, their validation, and its record."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.arm import Arm, Fixed
from pipeline.schema.base import MAX_WIDTH, SpecError, Strict
from pipeline.schema.data import Dataset
from pipeline.schema.foreign import PATTERN, Foreign
from pipeline.schema.record import Settings
from pipeline.schema.study import Curve, Run, Study
from pipeline.studies.node.derived import choose_outer_norm, choose_stem_groups, has_mlp, ode_width


class NodeNetwork(Strict):
    """The classifier: stem, two residual blocks of stride 2, ODE block, head (the paper, section 4.1).

    Choices that the paper leaves open are fields. The sites are the two convolutions of the ODE function. The order of
    the fields is their order in an arm's name.
    """

    block: Literal["ode", "none"] = Field("ode", description="none: control without an ODE block, stem and head alone")
    norm: Literal["group", "batch", "instance", "layer"] = Field(
        "group", description="normalisation; layer: over all channels and pixels, affine weights per element"
    )
    norm_scope: Literal["all", "ode"] = Field(
        "all", description="where `norm` applies: everywhere, or in the ODE function only, with group elsewhere"
    )
    batch_statistics: Literal["batch", "running"] = Field(
        "batch",
        description="statistics of norm=batch in evaluation: those of the test batch, or running averages",
    )
    time: Literal["none", "concat", "linear", "mlp", "concat+mlp"] = Field(
        "concat",
        description="how t enters a site; concat: as an input channel (ConcatConv); linear: plus t v; "
        "mlp: plus MLP(t); v and MLP(t) have one value per channel",
    )
    embedding_input: Literal["scalar", "sinusoid"] = Field(
        "scalar", description="input of the MLPs: t, or a sinusoidal embedding of t with C entries"
    )
    embedding_sites: Literal["separate", "shared"] = Field(
        "separate", description="one MLP per site, or a shared MLP with one linear layer per site"
    )
    embedding_activation: Literal["same", "silu"] = Field(
        "same", description="activation in the MLPs: the network's, or SiLU"
    )
    position: Literal["none", "linear", "mlp"] = Field(
        "none", description="positional timestep embedding (the paper's Equation 6), a map [1, H, W]: t p, or MLP(t)"
    )
    position_sites: Literal["separate", "shared", "first"] = Field(
        "separate", description="one map per site, one map for both sites, or a map at the first site only"
    )
    position_init: Literal["normal", "zeros", "uniform", "ones"] = Field(
        "normal",
        description="initial p. normal: with the standard deviation of the initial v; uniform: within 1 / sqrt(fan-in)",
    )
    zero_bias: Literal["none", "conv", "time", "all"] = Field(
        "none",
        description="branches whose biases start at zero: convolutions, timestep MLPs, or both; the others keep "
        "PyTorch's default",
    )
    zero_bias_scope: Literal["ode", "all"] = Field(
        "ode", description="where zero_bias applies: to the ODE function only, or to stem and head too"
    )
    weight_std: float | None = Field(
        None, gt=0, le=1e6, description="standard deviation of the sites' initial weights; null: PyTorch's default"
    )
    weight_distribution: Literal["normal", "uniform"] = Field(
        "normal", description="distribution of the initial weights under weight_std"
    )
    weight_std_time: bool = Field(False, description="whether weight_std also applies to the weights of the t channel")
    padding: Literal["zeros", "circular"] = Field(
        "zeros",
        description="padding of the sites; circular: no border at which the embedding of a t channel differs",
    )
    groups: int = Field(
        32, ge=1, le=MAX_WIDTH, description="groups G of every GroupNorm; min(G, channels) in narrower layers"
    )
    groups_scope: Literal["all", "ode"] = Field(
        "all",
        description="where `groups` applies: everywhere, or in the ODE function only, with outer_groups elsewhere",
    )
    outer_groups: int = Field(
        32, ge=1, le=MAX_WIDTH, description="groups outside the ODE function under groups_scope=ode"
    )
    activation: Literal["relu", "silu", "elu", "softplus", "sigmoid"] = Field(
        "relu", description="activation function, within activation_scope"
    )
    activation_scope: Literal["all", "ode"] = Field(
        "all", description="where `activation` applies: everywhere, or in the ODE function only, with ReLU elsewhere"
    )
    channels: int = Field(256, ge=1, le=MAX_WIDTH, description="channels C of the ODE block")
    stem_channels: int = Field(
        64, ge=1, le=MAX_WIDTH, description="channels of the stem convolution and the first residual block"
    )
    augment_channels: int = Field(
        0, ge=0, le=MAX_WIDTH, description="zero channels appended to the ODE's initial state (ANODE)"
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout probability in the head")
    solver: Literal["dopri5", "bosh3", "dopri8"] = Field(
        "dopri5", description="adaptive Runge-Kutta method, as torchdiffeq names it"
    )
    implementation: Literal["native", "torchdiffeq"] = Field(
        "native", description="native: this project's dopri5, with the same steps as torchdiffeq's, and faster"
    )
    rtol: float = Field(1e-3, gt=0, le=1, description="relative tolerance of the solver")
    atol: float = Field(1e-3, gt=0, le=1, description="absolute tolerance of the solver")
    max_steps: int = Field(
        1000, ge=1, le=1_000_000_000, description="limit of attempted steps per solve; beyond it the run fails"
    )
    gradient: Literal["adjoint", "direct"] = Field(
        "adjoint", description="adjoint ODE, or backpropagation through the solver"
    )
    adjoint_norm: Literal["mixed", "seminorm"] = Field(
        "mixed",
        description="error norm of the adjoint solve: with the parameter gradients (torchdiffeq's default) or without",
    )
    position_mean: bool = Field(
        False,
        description="control: replace the positional map by its mean over pixels; equal parameters, no spatial freedom",
    )
    function: Annotated[str | None, Foreign()] = Field(
        None,
        pattern=PATTERN,
        description="an ODE function (t, x) of your own in place of ours: module:factory in networks/; null: ours",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        uses = []
        if self.norm == "group":
            uses.append(("groups", self.groups, ode_width(self)))
        if choose_outer_norm(self) == "group":
            name = "groups" if self.groups_scope == "all" else "outer_groups"
            widths = (self.stem_channels, self.channels, ode_width(self))
            uses += [(name, choose_stem_groups(self), width) for width in widths]
        for name, groups, width in uses:
            if width % min(groups, width):
                raise ValueError(f"{name} = {groups} does not divide {width} channels")
        if self.zero_bias in ("time", "all") and not has_mlp(self):
            raise ValueError(
                f"zero_bias = {self.zero_bias!r} needs an MLP (time or position): "
                f"the timestep branch of time = {self.time!r} has no bias"
            )
        if self.norm_scope == "ode" and self.norm == "group":
            raise ValueError("norm_scope = 'ode' needs a norm other than 'group', which is the norm elsewhere")
        if self.implementation == "native" and self.solver != "dopri5":
            raise ValueError(f"solver = {self.solver!r} needs implementation = 'torchdiffeq'; native is dopri5 alone")
        return self


_EFFECTIVE: dict[str, tuple[str, Callable[["NodeRun"], bool]]] = {
    "batch_statistics": ("norm=batch", lambda run: run.network.norm == "batch"),
    "embedding_input": ("time=mlp or position=mlp", lambda run: has_mlp(run.network)),
    "embedding_sites": ("time=mlp or time=concat+mlp", lambda run: "mlp" in run.network.time),
    "embedding_activation": ("time=mlp or position=mlp", lambda run: has_mlp(run.network)),
    "position_sites": ("position", lambda run: run.network.position != "none"),
    "position_mean": ("position", lambda run: run.network.position != "none"),
    "position_init": ("position=linear", lambda run: run.network.position == "linear"),
    "zero_bias_scope": ("zero_bias=conv or zero_bias=all", lambda run: run.network.zero_bias in ("conv", "all")),
    "weight_distribution": ("weight_std", lambda run: run.network.weight_std is not None),
    "weight_std_time": (
        "weight_std, and time=concat",
        lambda run: run.network.weight_std is not None and run.network.time.startswith("concat"),
    ),
    "outer_groups": ("groups_scope=ode", lambda run: run.network.groups_scope == "ode"),
    "patience": ("schedule=plateau", lambda run: run.training.schedule == "plateau"),
    "adjoint_norm": ("gradient=adjoint", lambda run: run.network.gradient == "adjoint"),
}
"""Fields that have an effect only under a condition: its text for messages, and its test."""
_OF_OUR_FUNCTION = (
    "norm_scope",
    "time",
    "embedding_input",
    "embedding_sites",
    "embedding_activation",
    "position",
    "position_sites",
    "position_init",
    "zero_bias",
    "weight_std",
    "weight_distribution",
    "weight_std_time",
    "padding",
    "groups_scope",
    "outer_groups",
    "activation_scope",
    "position_mean",
)
"""Fields without effect where the ODE function is not ours; but zero_bias, where its scope has stem and head."""
_OUTSIDE_ODE = ("block", "norm", "groups", "activation", "channels", "stem_channels", "dropout")
"""Fields that have an effect without an ODE block."""


class NodeTraining(Strict):
    """The training recipe: SGD, learning rate schedule, augmentation."""

    image_size: Annotated[int, Fixed()] = Field(
        32, ge=12, le=1024, description="side in pixels to which images are resized when fetched"
    )
    epochs: int = Field(250, ge=1, description="passes over the training split")
    batch_size: int = Field(128, ge=2, description="images per step, and per test batch")
    learning_rate: float = Field(0.1, gt=0, description="initial learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD, without Nesterov")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay, on every parameter")
    schedule: Literal["plateau", "cosine"] = Field(
        "plateau",
        description="plateau: the rate is divided by 10 when the test accuracy has not risen for `patience` epochs, as "
        "in the paper; cosine: it falls to 0, and the test split serves only to choose the best epoch",
    )
    patience: int = Field(15, ge=0, description="patience of the plateau schedule, in epochs")
    crop_padding: int = Field(4, ge=0, description="black pixels of padding before the random crop; 0: no crop")
    flip: bool = Field(True, description="horizontal flip with probability 1/2")
    hue: float = Field(0.05, ge=0, le=0.5, description="hue jitter, in turns; 0: none")
    saturation: float = Field(0.05, ge=0, le=1, description="saturation jitter, relative; 0: none")
    mean: list[float] = Field(
        [0.4914, 0.4822, 0.4465], min_length=1, description="mean of each channel in [0, 1], which is subtracted"
    )
    std: list[float] = Field([0.2023, 0.1994, 0.2010], min_length=1, description="divisor of each channel after that")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels, std has {len(self.std)}")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        if self.crop_padding >= self.image_size:
            raise ValueError(
                f"crop_padding = {self.crop_padding}: allowed are 0 to {self.image_size - 1}, less than the image"
            )
        return self


class NodeRun(Run):
    """One fully resolved run of the study."""

    study: Literal["node"] = "node"
    network: NodeNetwork
    training: NodeTraining


class TimeAwareness(Strict):
    """How much a network's ODE function depends on time, measured on features h of test images.

    Relative change at t: ||f(h, t) - f(h, 0)|| / ||f(h, 0)||. For a site, f is the output of the norm after it, and h
    the site's input at t = 0. Share of a site: the mean variance over times (0 and `times`) of one value of the norm's
    output, divided by the variance of all its values. Null: the divisor is zero.
    """

    times: list[float] = Field(description="times, ascending, each compared with 0; the last one is 1")
    change: list[float | None] = Field(description="relative change of the ODE function at each of `times`")
    site_change: list[list[float | None]] = Field(description="relative change of each site at each of `times`")
    site_share: list[float | None] = Field(description="share of the variance that time makes, per site")


class NodeRecord(Strict):
    """The record of one trained classifier on the test split.

    The best epoch is the first one with the highest test accuracy. NFE: function evaluations per solve, mean over
    batches; null without an ODE block.
    """

    status: Literal["completed"] = "completed"
    accuracy: float = Field(ge=0, le=100, description="test accuracy in %, best epoch")
    accuracy_last: float = Field(ge=0, le=100, description="test accuracy in %, last epoch")
    nll: float = Field(description="mean negative log-likelihood in nats, best epoch")
    nll_last: float = Field(description="the same, last epoch")
    nfe: float | None = Field(ge=0, description="forward NFE, test batches, best epoch")
    nfe_last: float | None = Field(ge=0, description="the same, last epoch")
    nfe_train: float | None = Field(ge=0, description="forward NFE, training batches, best epoch")
    nfe_train_last: float | None = Field(ge=0, description="the same, last epoch")
    nfe_backward: float | None = Field(
        ge=0, description="NFE of the adjoint solve, training batches, best epoch; null under gradient=direct"
    )
    nfe_backward_last: float | None = Field(ge=0, description="the same, last epoch")
    change_initial: float | None = Field(description="relative change of the ODE function from t = 0 to 1, untrained")
    change: float | None = Field(description="the same, last epoch")
    share_initial: float | None = Field(description="share of variance that time makes, mean over sites, untrained")
    share: float | None = Field(description="the same, last epoch")
    best_epoch: int = Field(ge=1, description="first epoch with the highest test accuracy")
    epochs: int = Field(ge=1, description="epochs trained")
    images: int = Field(ge=1, description="images of the test split")
    num_params: int = Field(ge=1, description="number of trained parameters")
    settings: Settings
    initial: TimeAwareness | None = Field(
        description="time-awareness before training; null without an ODE block, and of a function that is not ours"
    )
    trained: TimeAwareness | None = Field(description="time-awareness after the last epoch; null likewise")
    accuracy_frozen: float | None = Field(
        None,
        ge=0,
        le=100,
        description="test accuracy in %, best epoch, with t = 1/2 at every evaluation of the ODE function; null: no "
        "ODE block, or not measured then",
    )
    nll_frozen: float | None = Field(None, description="nll with the same frozen time, in nats")
    time_use: float | None = Field(None, description="nll_frozen - nll: what the network makes of the time, in nats")


def _check_arm(run: NodeRun, arm: Arm, _: Any) -> None:
    """Refuse an override without effect, so that one variant has one name."""
    for name in arm.overrides:
        if run.network.block == "none" and name in NodeNetwork.model_fields and name not in _OUTSIDE_ODE:
            raise SpecError(f"arm {str(arm)!r}: {name} changes nothing: block=none has no ODE function")
        own, outside = run.network.function, name == "zero_bias" and run.network.zero_bias_scope == "all"
        if own is not None and name in _OF_OUR_FUNCTION and not outside:
            raise SpecError(f"arm {str(arm)!r}: {name} changes nothing: it is of our ODE function, not of {own}")
        needs, has_effect = _EFFECTIVE.get(name, ("", lambda run: True))
        if not has_effect(run):
            raise SpecError(f"arm {str(arm)!r}: {name} changes nothing without {needs}")


def _check_case(baseline: NodeRun, _: Any, dataset: Dataset) -> None:
    """Refuse a recipe that does not fit the images."""
    training, channels = baseline.training, dataset.channels
    if len(training.mean) != channels:
        raise SpecError(f"training.mean has {len(training.mean)} values; specs/data.yaml says {channels} channels")
    for key in ("hue", "saturation"):
        if (value := getattr(training, key)) and channels != 3:
            raise SpecError(f"training.{key} = {value}: allowed is 0: images of {channels} channels have no colours")


def _read_std(run: NodeRun) -> float:
    """Standard deviation of a site's initial weights: weight_std, or that of PyTorch's default.

    The default is uniform within 1 / sqrt(fan-in), so its standard deviation is 1 / sqrt(3 fan-in).
    """
    network = run.network
    if network.weight_std is not None:
        return network.weight_std
    inputs = ode_width(network) + network.time.startswith("concat")
    return 1 / math.sqrt(3 * 9 * inputs)


STUDY = Study(
    name="node",
    run=NodeRun,
    record=NodeRecord,
    steps=("train", "evaluate"),
    curves=(
        Curve("accuracy", "epoch", "test_accuracy", "test accuracy, %"),
        Curve("loss", "epoch", "train_loss", "training loss, nats"),
        Curve("nfe_train", "epoch", "nfe_train", "NFE, forward, training batches"),
        Curve("nfe_backward", "epoch", "nfe_backward", "NFE, backward, training batches"),
    ),
    coordinates={
        "groups": lambda run: min(run.network.groups, run.network.channels),
        "weight_std": _read_std,
    },
    check_arm=_check_arm,
    check_case=_check_case,
    kept=("train_node",),
    traces="pipeline.studies.node.traces",
    views="pipeline.studies.node.views",
    costs="pipeline.studies.node.cost",
)
