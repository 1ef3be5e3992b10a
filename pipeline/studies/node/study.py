"""The study `node`: a classifier with a neural ODE. What an arm may change, and what is recorded of a run."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.arm import Arm, Fixed
from pipeline.schema.base import MAX_WIDTH, SpecError, Strict
from pipeline.schema.data import Dataset
from pipeline.schema.record import Settings
from pipeline.schema.study import Curve, Run, Study
from pipeline.studies.node.derived import choose_outer_norm, choose_stem_groups, has_mlp, ode_width


class NodeNetwork(Strict):
    """The classifier: stem, two residual blocks of stride 2, ODE block, head. The order is that of an arm's fields.

    What the paper leaves open, a field says. Sites: the two convolutions of the ODE function.
    """

    block: Literal["ode", "none"] = Field("ode", description="none: stem and head alone, the control without an ODE")
    norm: Literal["group", "batch", "instance", "layer"] = Field(
        "group", description="normalisation; layer: over channels and pixels of an image, with weights for each element"
    )
    norm_scope: Literal["all", "ode"] = Field(
        "all", description="where `norm` applies: everywhere, or in the ODE function, with group elsewhere"
    )
    batch_statistics: Literal["batch", "running"] = Field(
        "batch",
        description="of norm = 'batch' in evaluation: those of the test batch, or averages kept in training",
    )
    time: Literal["none", "concat", "linear", "mlp", "concat+mlp"] = Field(
        "concat",
        description="how t enters a site: not at all; as a channel before the others; plus t v, one v a channel; "
        "plus MLP(t), one value a channel",
    )
    embedding_input: Literal["scalar", "sinusoid"] = Field(
        "scalar", description="of the MLP: t, or a sinusoid of t with as many entries as channels"
    )
    embedding_sites: Literal["separate", "shared"] = Field(
        "separate", description="an MLP at each site, or one for both with a linear layer at each"
    )
    embedding_activation: Literal["same", "silu"] = Field(
        "same", description="in the MLPs: that of the network, or SiLU"
    )
    position: Literal["none", "linear", "mlp"] = Field(
        "none", description="positional timestep embedding, a map [1, H, W]: t p, or MLP(t) with one value a pixel"
    )
    position_sites: Literal["separate", "shared", "first"] = Field(
        "separate", description="a map at each site, one map for both, or at the first site alone"
    )
    position_init: Literal["normal", "zeros", "uniform", "ones"] = Field(
        "normal",
        description="of p: normal as wide as the initial v; zeros; uniform within 1 / sqrt(fan-in) of a site; ones",
    )
    zero_bias: Literal["none", "conv", "time", "all"] = Field(
        "none",
        description="branches whose biases start at zero: the convolutions, the timestep's MLPs, or both; "
        "the others keep PyTorch's default",
    )
    zero_bias_scope: Literal["ode", "all"] = Field(
        "ode", description="convolutions of the ODE function alone, or those of stem and head too"
    )
    weight_std: float | None = Field(
        None, gt=0, le=1e6, description="of the sites' initial convolution weights; null: PyTorch's default"
    )
    weight_distribution: Literal["normal", "uniform"] = Field(
        "normal", description="of the weights that weight_std widens"
    )
    weight_std_time: bool = Field(False, description="whether weight_std also applies to the weights of the t channel")
    padding: Literal["zeros", "circular"] = Field(
        "zeros",
        description="of the sites; circular: no border, where the t channel's embedding differs from the interior's",
    )
    groups: int = Field(
        32, ge=1, le=MAX_WIDTH, description="groups G of every GroupNorm, min(G, channels) where narrower"
    )
    groups_scope: Literal["all", "ode"] = Field(
        "all",
        description="where `groups` applies: everywhere, or in the ODE function, with outer_groups elsewhere",
    )
    outer_groups: int = Field(
        32, ge=1, le=MAX_WIDTH, description="groups outside the ODE function where groups_scope is ode"
    )
    activation: Literal["relu", "silu", "elu", "softplus", "sigmoid"] = Field(
        "relu", description="within activation_scope"
    )
    activation_scope: Literal["all", "ode"] = Field(
        "all", description="where `activation` applies: everywhere, or in the ODE function, with ReLU elsewhere"
    )
    channels: int = Field(256, ge=1, le=MAX_WIDTH, description="channels C of the ODE block")
    stem_channels: int = Field(
        64, ge=1, le=MAX_WIDTH, description="channels of the stem convolution and the first residual block"
    )
    augment_channels: int = Field(
        0, ge=0, le=MAX_WIDTH, description="channels of zeros that the ODE's state has besides (ANODE)"
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="probability in the head")
    solver: Literal["dopri5", "bosh3", "dopri8"] = Field(
        "dopri5", description="adaptive Runge-Kutta method, torchdiffeq's names"
    )
    implementation: Literal["native", "torchdiffeq"] = Field(
        "native", description="whose solver; native: this project's dopri5, step for step torchdiffeq's and faster"
    )
    rtol: float = Field(1e-3, gt=0, le=1, description="relative tolerance of the solver")
    atol: float = Field(1e-3, gt=0, le=1, description="absolute tolerance of the solver")
    max_steps: int = Field(
        1000, ge=1, le=1_000_000_000, description="attempted steps of one solve, beyond which the run has failed"
    )
    gradient: Literal["adjoint", "direct"] = Field(
        "adjoint", description="adjoint ODE, or backpropagation through the solver"
    )
    adjoint_norm: Literal["mixed", "seminorm"] = Field(
        "mixed",
        description="error norm of the adjoint solve: with the parameters' part (torchdiffeq's default) or without",
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
"""Fields that change nothing unless others have certain values: how to say it, and when they do."""
_OUTSIDE_ODE = ("block", "norm", "groups", "activation", "channels", "stem_channels", "dropout")
"""Fields that change something without an ODE block."""


class NodeTraining(Strict):
    """The recipe: optimiser, a falling rate, augmentation."""

    image_size: Annotated[int, Fixed()] = Field(
        32, ge=12, le=1024, description="pixels a side, to which the images are brought when fetched"
    )
    epochs: int = Field(250, ge=1, description="passes over the training split")
    batch_size: int = Field(128, ge=2, description="images a step, and a test batch")
    learning_rate: float = Field(0.1, gt=0, description="at the start")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD, not Nesterov's")
    weight_decay: float = Field(1e-4, ge=0, description="on every parameter")
    schedule: Literal["plateau", "cosine"] = Field(
        "plateau",
        description="plateau: the rate is divided by 10 when the test accuracy has not risen for `patience` epochs; "
        "cosine: it falls to 0 over the training, which sees the test split only to name the best epoch",
    )
    patience: int = Field(15, ge=0, description="epochs, of the plateau schedule")
    crop_padding: int = Field(4, ge=0, description="random crop after padding by so many black pixels; 0: none")
    flip: bool = Field(True, description="horizontal flip with probability 1/2")
    hue: float = Field(0.05, ge=0, le=0.5, description="hue jitter, in turns; 0: none")
    saturation: float = Field(0.05, ge=0, le=1, description="saturation jitter, relative; 0: none")
    mean: list[float] = Field(
        [0.4914, 0.4822, 0.4465], min_length=1, description="subtracted from each channel of the image in [0, 1]"
    )
    std: list[float] = Field([0.2023, 0.1994, 0.2010], min_length=1, description="divides each channel after that")

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
    """One model of the study, fully resolved."""

    study: Literal["node"] = "node"
    network: NodeNetwork
    training: NodeTraining


class TimeAwareness(Strict):
    """How much a network's ODE function depends on time, on features of test images.

    Relative change at t: ||f(h, t) - f(h, 0)|| / ||f(h, 0)||. At a site, f is the normalised sum of convolution and
    timestep embedding, h the site's input at t = 0. Share: the part of the normalised sum's variance that t makes, i.e.
    the variance over `times` and 0 at fixed image, channel and pixel, averaged, over the whole variance. Null: the
    divisor is zero.
    """

    times: list[float] = Field(description="t of each change, ascending; the last one is 1")
    change: list[float | None] = Field(description="relative change of the ODE function, at each of `times`")
    site_change: list[list[float | None]] = Field(description="the same at each site")
    site_share: list[float | None] = Field(description="share of the variance, at each site")


class NodeRecord(Strict):
    """One trained classifier on the test split. `best` is the epoch of the highest test accuracy.

    NFE: function evaluations of a solve, mean over batches; null without an ODE block.
    """

    status: Literal["completed"] = "completed"
    accuracy: float = Field(ge=0, le=100, description="%, best epoch")
    accuracy_last: float = Field(ge=0, le=100, description="%, last epoch")
    nll: float = Field(description="mean negative log-likelihood in nats, best epoch")
    nll_last: float = Field(description="the same, last epoch")
    nfe: float | None = Field(ge=0, description="forward, test batches, best epoch")
    nfe_last: float | None = Field(ge=0, description="the same, last epoch")
    nfe_train: float | None = Field(ge=0, description="forward, training batches, best epoch")
    nfe_train_last: float | None = Field(ge=0, description="the same, last epoch")
    nfe_backward: float | None = Field(
        ge=0, description="adjoint solve, training batches, best epoch; null with the direct gradient"
    )
    nfe_backward_last: float | None = Field(ge=0, description="the same, last epoch")
    change_initial: float | None = Field(description="relative change of the ODE function from t = 0 to 1, untrained")
    change: float | None = Field(description="the same, last epoch")
    share_initial: float | None = Field(description="share of variance that t has, mean over sites, untrained")
    share: float | None = Field(description="the same, last epoch")
    best_epoch: int = Field(ge=1, description="first epoch with the highest test accuracy")
    epochs: int = Field(ge=1, description="trained")
    images: int = Field(ge=1, description="of the test split")
    num_params: int = Field(ge=1, description="trained parameters")
    settings: Settings
    initial: TimeAwareness | None = Field(description="time-awareness before the first step")
    trained: TimeAwareness | None = Field(description="time-awareness of the last epoch")


def _check_arm(run: NodeRun, arm: Arm, _: Any) -> None:
    """Refuse an override that changes nothing, so that one variant has one name."""
    for name in arm.overrides:
        if run.network.block == "none" and name in NodeNetwork.model_fields and name not in _OUTSIDE_ODE:
            raise SpecError(f"arm {str(arm)!r}: {name} changes nothing: block=none has no ODE function")
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
    """Standard deviation of a site's initial weights: as set, or PyTorch's default, uniform in 1 / sqrt(fan-in)."""
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
