"""The NODE study: the baseline of the paper, what an arm may change, and the training budget per dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.base import MAX_WIDTH, SpecError, Strict, merge, read_yaml, resolve_arm, validate


class NodeNetwork(Strict):
    """The classifier: stem, two residual blocks of stride 2, ODE block, head. The order is that of an arm's fields.

    (A1) to (A15) are the choices that the paper leaves open. Sites: the two convolutions of the ODE function.
    """

    block: Literal["ode", "none"] = Field(description="none: stem and head alone, the control without an ODE")
    norm: Literal["group", "batch", "instance", "layer"] = Field(
        description="normalisation; layer: over channels and pixels of an image, with weights for each element"
    )
    norm_scope: Literal["all", "ode"] = Field(
        description="where `norm` applies: everywhere, or in the ODE function, with group elsewhere (A1)"
    )
    batch_statistics: Literal["batch", "running"] = Field(
        description="of norm = 'batch' in evaluation: those of the test batch, or averages kept in training (A2)"
    )
    time: Literal["none", "concat", "linear", "mlp", "concat+mlp"] = Field(
        description="how t enters a site: not at all; as a channel before the others; plus t v, one v a channel; "
        "plus MLP(t), one value a channel (A8, A9)"
    )
    embedding_input: Literal["scalar", "sinusoid"] = Field(
        description="of the MLP: t, or a sinusoid of t with as many entries as channels (A8)"
    )
    embedding_sites: Literal["separate", "shared"] = Field(
        description="an MLP at each site, or one for both with a linear layer at each (A8)"
    )
    embedding_activation: Literal["same", "silu"] = Field(description="in the MLPs: that of the network, or SiLU (A10)")
    position: Literal["none", "linear", "mlp"] = Field(
        description="positional timestep embedding, a map [1, H, W]: t p, or MLP(t) with one value a pixel"
    )
    position_sites: Literal["separate", "shared", "first"] = Field(
        description="a map at each site, one map for both, or at the first site alone (A5)"
    )
    position_init: Literal["normal", "zeros", "uniform", "ones"] = Field(
        description="of p: normal as wide as the initial v; zeros; uniform within 1 / sqrt(fan-in) of a site; ones (A4)"
    )
    zero_bias: Literal["none", "conv", "time", "all"] = Field(
        description="branches whose biases start at zero: the convolutions, the timestep's MLPs, or both; "
        "the others keep PyTorch's default (A7)"
    )
    zero_bias_scope: Literal["ode", "all"] = Field(
        description="convolutions of the ODE function alone, or those of stem and head too (A11)"
    )
    weight_std: float | None = Field(
        gt=0, le=1e6, description="of the sites' initial convolution weights (A15); null: PyTorch's default"
    )
    weight_distribution: Literal["normal", "uniform"] = Field(description="of the weights that weight_std widens (A15)")
    weight_std_time: bool = Field(description="whether weight_std also applies to the weights of the t channel (A15)")
    padding: Literal["zeros", "circular"] = Field(
        description="of the sites; circular: no border, where the t channel's embedding differs from the interior's"
    )
    groups: int = Field(ge=1, le=MAX_WIDTH, description="groups G of every GroupNorm, min(G, channels) where narrower")
    groups_scope: Literal["all", "ode"] = Field(
        description="where `groups` applies: everywhere, or in the ODE function, with outer_groups elsewhere (A3)"
    )
    outer_groups: int = Field(
        ge=1, le=MAX_WIDTH, description="groups outside the ODE function where groups_scope is ode"
    )
    activation: Literal["relu", "silu", "elu", "softplus", "sigmoid"] = Field(description="within activation_scope")
    activation_scope: Literal["all", "ode"] = Field(
        description="where `activation` applies: everywhere, or in the ODE function, with ReLU elsewhere (A12)"
    )
    channels: int = Field(ge=1, le=MAX_WIDTH, description="channels C of the ODE block")
    stem_channels: int = Field(
        ge=1, le=MAX_WIDTH, description="channels of the stem convolution and the first residual block"
    )
    augment_channels: int = Field(
        ge=0, le=MAX_WIDTH, description="channels of zeros that the ODE's state has besides (ANODE)"
    )
    dropout: float = Field(ge=0, lt=1, description="probability in the head")
    solver: Literal["dopri5", "bosh3", "dopri8"] = Field(description="adaptive Runge-Kutta method, torchdiffeq's names")
    implementation: Literal["native", "torchdiffeq"] = Field(
        description="whose solver; native: this project's dopri5, step for step torchdiffeq's and faster"
    )
    rtol: float = Field(gt=0, le=1, description="relative tolerance of the solver")
    atol: float = Field(gt=0, le=1, description="absolute tolerance of the solver")
    max_steps: int = Field(
        ge=1, le=1_000_000_000, description="attempted steps of one solve, beyond which the run has failed"
    )
    gradient: Literal["adjoint", "direct"] = Field(description="adjoint ODE, or backpropagation through the solver")
    adjoint_norm: Literal["mixed", "seminorm"] = Field(
        description="error norm of the adjoint solve: with the parameters' part (torchdiffeq's default) or without"
    )

    @property
    def has_mlp(self) -> bool:
        """Whether a timestep embedding is an MLP."""
        return "mlp" in self.time or self.position == "mlp"

    @property
    def width(self) -> int:
        """Channels of the ODE's state."""
        return self.channels + self.augment_channels

    @property
    def outer_norm(self) -> Literal["group", "batch", "instance", "layer"]:
        """The normalisation of stem and head."""
        return self.norm if self.norm_scope == "all" else "group"

    @property
    def stem_groups(self) -> int:
        """Groups of a GroupNorm in stem and head, where its channels allow."""
        return self.groups if self.groups_scope == "all" else self.outer_groups

    @model_validator(mode="after")
    def _check(self) -> Self:
        uses = []
        if self.norm == "group":
            uses.append(("groups", self.groups, self.width))
        if self.outer_norm == "group":
            name = "groups" if self.groups_scope == "all" else "outer_groups"
            uses += [(name, self.stem_groups, width) for width in (self.stem_channels, self.channels, self.width)]
        for name, groups, width in uses:
            if width % min(groups, width):
                raise ValueError(f"{name} = {groups} does not divide {width} channels")
        if self.zero_bias in ("time", "all") and not self.has_mlp:
            raise ValueError(
                f"zero_bias = {self.zero_bias!r} needs an MLP (time or position): "
                f"the timestep branch of time = {self.time!r} has no bias"
            )
        if self.norm_scope == "ode" and self.norm == "group":
            raise ValueError("norm_scope = 'ode' needs a norm other than 'group', which is the norm elsewhere")
        if self.implementation == "native" and self.solver != "dopri5":
            raise ValueError(f"solver = {self.solver!r} needs implementation = 'torchdiffeq'; native is dopri5 alone")
        return self


_EFFECTIVE: dict[str, tuple[str, Callable[[NodeNetwork], bool]]] = {
    "batch_statistics": ("norm=batch", lambda network: network.norm == "batch"),
    "embedding_input": ("time=mlp or position=mlp", lambda network: network.has_mlp),
    "embedding_sites": ("time=mlp or time=concat+mlp", lambda network: "mlp" in network.time),
    "embedding_activation": ("time=mlp or position=mlp", lambda network: network.has_mlp),
    "position_sites": ("position", lambda network: network.position != "none"),
    "position_init": ("position=linear", lambda network: network.position == "linear"),
    "zero_bias_scope": ("zero_bias=conv or zero_bias=all", lambda network: network.zero_bias in ("conv", "all")),
    "weight_distribution": ("weight_std", lambda network: network.weight_std is not None),
    "weight_std_time": (
        "weight_std, and time=concat",
        lambda network: network.weight_std is not None and network.time.startswith("concat"),
    ),
    "outer_groups": ("groups_scope=ode", lambda network: network.groups_scope == "ode"),
    "adjoint_norm": ("gradient=adjoint", lambda network: network.gradient == "adjoint"),
}
"""Fields that change nothing unless others have certain values: how to say it, and when they do."""
_OUTSIDE_ODE = ("block", "norm", "groups", "activation", "channels", "stem_channels", "dropout")
"""Fields that change something without an ODE block."""


class NodeTraining(Strict):
    """The recipe: optimiser, a falling rate, augmentation."""

    image_size: int = Field(ge=12, le=1024, description="pixels a side, to which the images are brought when fetched")
    epochs: int = Field(ge=1, description="passes over the training split")
    batch_size: int = Field(ge=2, description="images a step, and a test batch")
    learning_rate: float = Field(gt=0, description="at the start")
    momentum: float = Field(ge=0, lt=1, description="of SGD, not Nesterov's")
    weight_decay: float = Field(ge=0, description="on every parameter")
    schedule: Literal["plateau", "cosine"] = Field(
        description="plateau: the rate is divided by 10 when the test accuracy has not risen for `patience` epochs; "
        "cosine: it falls to 0 over the training, which sees the test split only to name the best epoch"
    )
    patience: int = Field(ge=0, description="epochs, of the plateau schedule")
    crop_padding: int = Field(ge=0, description="random crop after padding by so many black pixels; 0: none")
    flip: bool = Field(description="horizontal flip with probability 1/2")
    hue: float = Field(ge=0, le=0.5, description="hue jitter, in turns; 0: none")
    saturation: float = Field(ge=0, le=1, description="saturation jitter, relative; 0: none")
    mean: list[float] = Field(min_length=1, description="subtracted from each channel of the image in [0, 1]")
    std: list[float] = Field(min_length=1, description="divides each channel after that")

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


class NodeOverrides(Strict):
    """What one dataset changes: fields of the network, and its training budget."""

    network: dict[str, Any] = Field(default_factory=dict, description="fields of the network that differ from base")
    training: NodeTraining


class NodeSpec(Strict):
    """specs/node.yaml."""

    base: NodeNetwork
    datasets: dict[str, NodeOverrides]


class NodeRun(Strict):
    """One model of the study, fully resolved."""

    study: Literal["node"] = "node"
    dataset: str
    arm: str
    seed: int = Field(ge=0, lt=2**31)
    network: NodeNetwork
    training: NodeTraining


def load_node_spec(root: Path) -> NodeSpec:
    """Read and validate specs/node.yaml; every dataset's network is resolved once, so a mistake in it shows here."""
    spec = validate(NodeSpec, read_yaml(root / "specs" / "node.yaml"), "specs/node.yaml")
    for dataset in spec.datasets:
        resolve_node_baseline(spec, dataset)
    return spec


def resolve_node_baseline(spec: NodeSpec, dataset: str) -> NodeNetwork:
    """The network of the arm `baseline` on a dataset."""
    if dataset not in spec.datasets:
        raise SpecError(f"specs/node.yaml: datasets: {dataset!r} is not there; known: {', '.join(spec.datasets)}")
    layers = merge(spec.base.model_dump(), spec.datasets[dataset].network)
    return validate(NodeNetwork, layers, "specs/node.yaml", f"datasets.{dataset}.network")


def resolve_node_run(spec: NodeSpec, dataset: str, arm: str, seed: int) -> NodeRun:
    """Base, then dataset, then arm.

    Raises:
        SpecError: unknown dataset, an arm that is not canonical, or a combination that the network refuses.
    """
    baseline = resolve_node_baseline(spec, dataset)
    overrides = resolve_arm(arm, baseline)
    network = validate(NodeNetwork, merge(baseline.model_dump(), overrides), f"node {dataset} arm {arm!r}")
    for name in overrides:
        if network.block == "none" and name not in _OUTSIDE_ODE:
            raise SpecError(f"arm {arm!r}: {name} changes nothing: block=none has no ODE function")
        needs, has_effect = _EFFECTIVE.get(name, ("", lambda network: True))
        if not has_effect(network):
            raise SpecError(f"arm {arm!r}: {name} changes nothing without {needs}")
    fields = {"dataset": dataset, "arm": arm, "seed": seed, "network": network}
    return validate(NodeRun, {**fields, "training": spec.datasets[dataset].training}, f"node {dataset} arm {arm!r}")
