"""The DDPM study: U-Net and schedule (inferred from score_sde_pytorch), what an arm may change, budgets per dataset."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.base import MAX_WIDTH, SpecError, Strict, merge, read_yaml, resolve_arm, validate


class DdpmNetwork(Strict):
    """The U-Net. The order is that of an arm's fields. Sites: where a residual block adds what it is told of the level.

    (A17) to (A21) are the choices that the paper leaves open.
    """

    position: Literal["none", "mlp"] = Field(
        description="positional timestep embedding: a map [1, H, W] made of the level, added at every site beside the "
        "channel-wise embedding"
    )
    position_input: Literal["embedding", "sinusoid", "mlp", "level"] = Field(
        description="what a linear layer makes the map from: the level's embedding; the sinusoid before it; a hidden "
        "layer of its own on that sinusoid; or level / levels, without a bias (A17)"
    )
    position_maps: Literal["block", "resolution", "network"] = Field(
        description="a map of its own in every block; one for the blocks of a resolution; or one of the image's size, "
        "averaged down to each block's (A17, A20)"
    )
    position_init: Literal["default", "zero"] = Field(
        description="of the map's weights: like every other linear layer's, or zero: the baseline at first (A18)"
    )
    position_bias: Literal["branch", "zero", "default"] = Field(
        description="of the map: as zero_bias says for the timestep branch, zero, or PyTorch's default (A19)"
    )
    position_mean: bool = Field(
        description="control: the map is replaced by its mean over pixels; the same parameters, no spatial freedom"
    )
    zero_bias: Literal["none", "conv", "time", "all"] = Field(
        description="branches whose biases start at zero: the convolutions, the timestep branch, or both; "
        "the others get PyTorch's default"
    )
    time_bias_scope: Literal["all", "sites", "embedding"] = Field(
        description="layers of the timestep branch that are not zero where zero_bias leaves that branch out: all, "
        "those that add at a site, or those of the level's embedding"
    )
    groups: int = Field(ge=1, le=MAX_WIDTH, description="groups G of every GroupNorm within groups_scope")
    groups_scope: Literal["all", "sites"] = Field(
        description="where `groups` applies: everywhere, or in the norms that follow a site, with outer_groups "
        "elsewhere (A21)"
    )
    outer_groups: int = Field(ge=1, le=MAX_WIDTH, description="groups of the other norms where groups_scope is sites")
    up_attention: Literal["last", "each"] = Field(
        description="attention on the way up after the last residual block of a resolution, or after each one"
    )
    channels: int = Field(ge=4, le=MAX_WIDTH, multiple_of=4, description="channels of the first resolution")
    channel_multipliers: list[Annotated[int, Field(ge=1, le=1024)]] = Field(
        min_length=1, max_length=8, description="channels of each resolution, as a multiple"
    )
    blocks: int = Field(
        ge=1, le=100, description="residual blocks a resolution on the way down; one more on the way up"
    )
    attention_sizes: list[int] = Field(max_length=100, description="resolutions, pixels a side, with self-attention")
    dropout: float = Field(ge=0, lt=1, description="probability in every residual block")
    replicate: int = Field(
        ge=0, le=999, description="control: the same network trained with other random numbers; 0 is the seed's own"
    )
    weights: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        description="trained; or an entry of `imports` in specs/ddpm.yaml, whose weights are taken as they are",
    )

    def norm_widths(self) -> list[int]:
        """The channel counts that a GroupNorm of the U-Net sees, ascending."""
        levels = [self.channels * multiplier for multiplier in self.channel_multipliers]
        skips = [self.channels]
        for index, width in enumerate(levels):
            skips += [width] * self.blocks
            if index < len(levels) - 1:
                skips.append(width)
        seen, h = {*levels, *skips}, levels[-1]
        for width in reversed(levels):
            for _ in range(self.blocks + 1):
                seen.add(h + skips.pop())
                h = width
        return sorted(seen)

    @model_validator(mode="after")
    def _check(self) -> Self:
        site_widths = {self.channels * multiplier for multiplier in self.channel_multipliers}
        for width in self.norm_widths():
            uses = []
            if self.groups_scope == "all" or width in site_widths:
                uses.append(("groups", self.groups))
            if self.groups_scope == "sites":
                uses.append(("outer_groups", self.outer_groups))
            for name, groups in uses:
                if width % groups:
                    raise ValueError(f"{name} = {groups} does not divide {width} channels")
        return self


TRAINED = "trained"
"""The value of `weights` that stands for a training."""
_EFFECTIVE: dict[str, tuple[str, Callable[[DdpmNetwork], bool]]] = {
    "position_input": ("position=mlp", lambda network: network.position != "none"),
    "position_maps": ("position=mlp", lambda network: network.position != "none"),
    "position_init": ("position=mlp", lambda network: network.position != "none"),
    "position_bias": (
        "position=mlp, and a position_input other than level",
        lambda network: network.position != "none" and network.position_input != "level",
    ),
    "position_mean": ("position=mlp", lambda network: network.position != "none"),
    "time_bias_scope": ("zero_bias=conv or zero_bias=none", lambda network: network.zero_bias in ("conv", "none")),
    "groups_scope": ("groups other than outer_groups", lambda network: network.groups != network.outer_groups),
    "outer_groups": ("groups_scope=sites", lambda network: network.groups_scope == "sites"),
}
"""Fields that change nothing unless others have certain values: how to say it, and when they do."""
_OF_TRAINING = ("position_init", "position_bias", "zero_bias", "time_bias_scope", "dropout", "replicate")
"""Fields that change nothing where weights are imported."""


class Diffusion(Strict):
    """The discrete linear variance-preserving schedule: beta from beta_min / levels to beta_max / levels."""

    levels: int = Field(ge=2, le=1_000_000, description="noise levels, 0 the least noisy")
    beta_min: float = Field(gt=0, description="score_sde's units: 0.1 is 1e-4 at 1000 levels")
    beta_max: float = Field(gt=0, description="score_sde's units: 20 is 0.02 at 1000 levels")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.beta_min < self.beta_max < self.levels:
            raise ValueError(
                f"beta_min < beta_max < levels is needed, so that every beta is below 1; levels = {self.levels}"
            )
        return self


class DdpmTraining(Strict):
    """The recipe: Adam, linear warm-up, clipped gradients, an exponential moving average of the weights."""

    image_size: int = Field(ge=4, le=1024, description="pixels a side, to which the images are brought when fetched")
    steps: int = Field(ge=1, description="optimiser steps")
    batch_size: int = Field(ge=1, description="images a step")
    learning_rate: float = Field(gt=0, description="after the warm-up")
    warmup: int = Field(ge=0, description="steps over which the rate rises from 0")
    clip: float = Field(gt=0, description="maximum of the gradient's global norm")
    ema_decay: float = Field(ge=0, lt=1, description="decay of the average; (1 + n) / (10 + n) in step n if smaller")
    flip: bool = Field(description="horizontal flip with probability 1/2")
    snapshot_every: int = Field(ge=1, description="steps between averaged weights that are kept; the last always are")
    fused: bool = Field(description="Adam in one kernel; another order of rounding, and faster")
    channels_last: bool = Field(description="memory layout of images and weights, in training and sampling")


class Sampling(Strict):
    """Sampling from the averaged weights. The noise of image i depends on (seed, i) alone."""

    images: int = Field(ge=2, description="images of a sample set")
    sets: int = Field(ge=1, le=100, description="disjoint sample sets of the last weights")
    first_snapshot: int | None = Field(
        ge=1, description="steps from which on snapshots are sampled too, one set each; null: the last weights alone"
    )
    batch_size: int = Field(ge=1, description="images at a time on a device")
    sampler: Literal["ancestral", "ddim"] = Field(
        description="ancestral: noise is added in every step; ddim: none after the first (Song et al. 2021, eta = 0)"
    )
    steps: int = Field(ge=1, description="sampling steps: levels visited, evenly spaced; all of them in the paper")
    clip: bool = Field(description="whether the x0-prediction of a step is clipped to [-1, 1]")
    labels: Literal["fractional", "integer"] = Field(
        description="level passed to the network: 0.999 (level + 1) as in score_sde_pytorch, or the level itself"
    )
    variance: Literal["large", "small"] = Field(
        description="of the noise that ancestral sampling adds: beta, or the posterior's"
    )
    quantisation: Literal["truncate", "round"] = Field(description="from [0, 255] to uint8; score_sde truncates")


class Evaluation(Strict):
    """FID, KID and IS of the sampled images against the training split."""

    isc_splits: int = Field(ge=2, description="splits of the Inception Score that is given beside that of all at once")
    kid_subsets: int = Field(ge=1, description="random subsets over which the KID is averaged")
    kid_subset_size: int = Field(ge=2, description="images of such a subset")
    batch_size: int = Field(ge=1, description="images at a time in the feature extractor")


class Import(Strict):
    """Weights from elsewhere: a folder that diffusers' `DDPMPipeline` reads."""

    folder: str = Field(min_length=1, description="relative to the project, or absolute")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of unet/diffusion_pytorch_model.safetensors in it")


class DdpmOverrides(Strict):
    """What one dataset changes: fields of the network, and its budgets."""

    network: dict[str, Any] = Field(default_factory=dict, description="fields of the network that differ from base")
    training: DdpmTraining
    sampling: Sampling
    evaluation: Evaluation


class DdpmBase(Strict):
    """The study's baseline."""

    network: DdpmNetwork
    diffusion: Diffusion


class DdpmSpec(Strict):
    """specs/ddpm.yaml."""

    base: DdpmBase
    datasets: dict[str, DdpmOverrides]
    imports: dict[str, Import] = Field(
        default_factory=dict, description="by a name that ends in the first 12 digits of the sha256; an arm's `weights`"
    )


class DdpmRun(Strict):
    """One model of the study, fully resolved. How it is sampled is not part of it."""

    study: Literal["ddpm"] = "ddpm"
    dataset: str
    arm: str
    seed: int = Field(ge=0, lt=2**31)
    network: DdpmNetwork
    diffusion: Diffusion
    training: DdpmTraining

    def purpose(self, *parts: str | int) -> tuple[str | int, ...]:
        """What the training's random numbers are drawn for; a replicate has purposes of its own."""
        return (*parts, "replicate", self.network.replicate) if self.network.replicate else parts


def load_ddpm_spec(root: Path) -> DdpmSpec:
    """Read and validate specs/ddpm.yaml; what concerns two keys of a dataset is checked here too."""
    spec = validate(DdpmSpec, read_yaml(root / "specs" / "ddpm.yaml"), "specs/ddpm.yaml")
    for name, dataset in spec.datasets.items():
        network = resolve_ddpm_baseline(spec, name)
        where = f"specs/ddpm.yaml: datasets.{name}"
        halvings = 2 ** (len(network.channel_multipliers) - 1)
        size, sampling = dataset.training.image_size, dataset.sampling
        if size % halvings:
            raise SpecError(
                f"{where}.training.image_size = {size}: not divisible by {halvings}, the U-Net's total stride"
            )
        if sampling.steps > spec.base.diffusion.levels:
            raise SpecError(
                f"{where}.sampling.steps = {sampling.steps}: allowed are 1 to {spec.base.diffusion.levels}, the levels"
            )
    for name, entry in spec.imports.items():
        if not name.endswith(suffix := f"-{entry.sha256[:12]}"):
            raise SpecError(
                f"specs/ddpm.yaml: imports.{name}: the name must end in {suffix}, the first digits of the sha256, "
                "so that an arm with other weights has another name"
            )
    return spec


def resolve_ddpm_baseline(spec: DdpmSpec, dataset: str) -> DdpmNetwork:
    """The network of the arm `baseline` on a dataset."""
    if dataset not in spec.datasets:
        raise SpecError(f"specs/ddpm.yaml: datasets: {dataset!r} is not there; known: {', '.join(spec.datasets)}")
    layers = merge(spec.base.network.model_dump(), spec.datasets[dataset].network)
    return validate(DdpmNetwork, layers, "specs/ddpm.yaml", f"datasets.{dataset}.network")


def _check_effects(arm: str, overrides: Collection[str], network: DdpmNetwork) -> None:
    """Refuse an override that changes nothing, so that one variant has one name."""
    for name in overrides:
        if network.weights != TRAINED and name in _OF_TRAINING:
            raise SpecError(f"arm {arm!r}: {name} changes nothing: weights={network.weights} is not trained here")
        needs, has_effect = _EFFECTIVE.get(name, ("", lambda network: True))
        if not has_effect(network):
            raise SpecError(f"arm {arm!r}: {name} changes nothing without {needs}")


def resolve_ddpm_run(spec: DdpmSpec, dataset: str, arm: str, seed: int) -> DdpmRun:
    """Base, then dataset, then arm.

    Raises:
        SpecError: unknown dataset, an arm that is not canonical, or a combination that the network refuses.
    """
    baseline = resolve_ddpm_baseline(spec, dataset)
    overrides = resolve_arm(arm, baseline)
    network = validate(DdpmNetwork, merge(baseline.model_dump(), overrides), f"ddpm {dataset} arm {arm!r}")
    _check_effects(arm, overrides, network)
    if network.weights not in (TRAINED, *spec.imports):
        known = ", ".join([TRAINED, *spec.imports])
        raise SpecError(
            f"arm {arm!r}: weights = {network.weights!r}: not in specs/ddpm.yaml: imports; allowed: {known}"
        )
    fields = {"dataset": dataset, "arm": arm, "seed": seed, "network": network, "diffusion": spec.base.diffusion}
    return validate(DdpmRun, {**fields, "training": spec.datasets[dataset].training}, f"ddpm {dataset} arm {arm!r}")
