"""The NODE study: the baseline of the paper, what an arm may change, and the training budget per dataset."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.base import SpecError, Strict, merge, read_yaml, resolve_arm, validate


class NodeNetwork(Strict):
    """The classifier: stem, two residual blocks of stride 2, ODE block, head. The order is that of an arm's fields."""

    norm: Literal["group", "batch"] = Field(
        description="normalisation everywhere (A1); batch: batch statistics in training and test alike (A2)"
    )
    time: Literal["concat", "mlp"] = Field(
        description="how t enters each convolution of the ODE function: a concatenated channel, "
        "or plus Linear(1, C)-activation-Linear(C, C) of t (A8, A9)"
    )
    position: Literal["none", "linear"] = Field(description="positional timestep embedding t p, one map p a site (A5)")
    zero_bias: Literal["none", "conv", "time", "all"] = Field(
        description="branches whose biases start at zero: the convolutions of the ODE function (A11), the "
        "timestep's MLP, or both; the others keep PyTorch's default"
    )
    groups: int = Field(ge=1, description="groups G of every GroupNorm, min(G, channels) where narrower (A3)")
    activation: Literal["relu", "silu", "elu", "softplus", "sigmoid"] = Field(description="within activation_scope")
    activation_scope: Literal["all", "ode"] = Field(
        description="where `activation` applies: everywhere, or in the ODE function, with ReLU elsewhere (A12)"
    )
    channels: int = Field(ge=1, description="channels C of the ODE block")
    stem_channels: int = Field(ge=1, description="channels of the stem convolution and the first residual block")
    dropout: float = Field(ge=0, lt=1, description="probability in the head")
    solver: Literal["dopri5"] = Field(description="torchdiffeq's method")
    rtol: float = Field(gt=0, le=1, description="relative tolerance of the solver")
    atol: float = Field(gt=0, le=1, description="absolute tolerance of the solver")
    gradient: Literal["adjoint", "direct"] = Field(description="adjoint ODE, or backpropagation through the solver")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.norm == "group":
            for width in sorted({self.stem_channels, self.channels}):
                if width % min(self.groups, width):
                    raise ValueError(f"groups = {self.groups} does not divide {width} channels")
        if self.time == "concat" and self.zero_bias in ("time", "all"):
            raise ValueError(
                f"zero_bias = {self.zero_bias!r} needs time = 'mlp': the timestep branch of 'concat' has no bias"
            )
        return self


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
    layers = merge(baseline.model_dump(), resolve_arm(arm, baseline))
    network = validate(NodeNetwork, layers, f"node {dataset} arm {arm!r}")
    fields = {"dataset": dataset, "arm": arm, "seed": seed, "network": network}
    return validate(NodeRun, {**fields, "training": spec.datasets[dataset].training}, f"node {dataset} arm {arm!r}")
