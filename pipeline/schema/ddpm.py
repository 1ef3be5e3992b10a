"""The DDPM study: the U-Net and schedule of the paper's base code, what an arm may change, budgets per dataset."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.base import SpecError, Strict, merge, read_yaml, resolve_arm, validate


class DdpmNetwork(Strict):
    """The U-Net. The order is that of an arm's fields."""

    position: Literal["none", "mlp"] = Field(
        description="positional timestep embedding: a Linear of the embedded level to H x W, beside the channel-wise "
        "one of every residual block (A17, A20)"
    )
    zero_bias: Literal["none", "conv", "time", "all"] = Field(
        description="branches whose biases start at zero: the convolutions, the timestep branch, or both; "
        "the others get PyTorch's default"
    )
    groups: int = Field(ge=1, description="groups G of every GroupNorm (A21)")
    up_attention: Literal["last", "each"] = Field(
        description="attention on the way up after the last residual block of a resolution, or after each one"
    )
    channels: int = Field(ge=4, multiple_of=4, description="channels of the first resolution")
    channel_multipliers: list[int] = Field(min_length=1, description="channels of each resolution, as a multiple")
    blocks: int = Field(ge=1, description="residual blocks a resolution on the way down; one more on the way up")
    attention_sizes: list[int] = Field(description="resolutions, pixels a side, with self-attention")
    dropout: float = Field(ge=0, lt=1, description="probability in every residual block")

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
        if any(multiplier < 1 for multiplier in self.channel_multipliers):
            raise ValueError("channel_multipliers must be at least 1")
        for width in self.norm_widths():
            if width % self.groups:
                raise ValueError(f"groups = {self.groups} does not divide {width} channels")
        return self


class Diffusion(Strict):
    """The discrete linear variance-preserving schedule: beta from beta_min / levels to beta_max / levels."""

    levels: int = Field(ge=2, description="noise levels, 0 the least noisy")
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


class Sampling(Strict):
    """Ancestral sampling from the averaged weights."""

    images: int = Field(ge=2, description="images to sample")
    batch_size: int = Field(ge=1, description="images at a time")
    steps: int = Field(ge=1, description="sampling steps: levels visited, evenly spaced; all of them in the paper")
    labels: Literal["fractional", "integer"] = Field(
        description="level told to the network: 0.999 (level + 1) as in the paper's base code, or the level itself"
    )
    variance: Literal["large", "small"] = Field(description="of the noise added: beta, or the posterior's")
    quantisation: Literal["truncate", "round"] = Field(description="from [0, 255] to uint8; the base code truncates")


class Evaluation(Strict):
    """FID and IS of the sampled images against the training split."""

    isc_splits: int = Field(ge=1, description="splits of the Inception Score; 1: all images at once")


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


class DdpmRun(Strict):
    """One model of the study, fully resolved. How it is sampled is not part of it."""

    study: Literal["ddpm"] = "ddpm"
    dataset: str
    arm: str
    seed: int = Field(ge=0, lt=2**31)
    network: DdpmNetwork
    diffusion: Diffusion
    training: DdpmTraining


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
        if dataset.evaluation.isc_splits > sampling.images:
            raise SpecError(
                f"{where}.evaluation.isc_splits = {dataset.evaluation.isc_splits}: "
                f"allowed are 1 to {sampling.images}, the images"
            )
    return spec


def resolve_ddpm_baseline(spec: DdpmSpec, dataset: str) -> DdpmNetwork:
    """The network of the arm `baseline` on a dataset."""
    if dataset not in spec.datasets:
        raise SpecError(f"specs/ddpm.yaml: datasets: {dataset!r} is not there; known: {', '.join(spec.datasets)}")
    layers = merge(spec.base.network.model_dump(), spec.datasets[dataset].network)
    return validate(DdpmNetwork, layers, "specs/ddpm.yaml", f"datasets.{dataset}.network")


def resolve_ddpm_run(spec: DdpmSpec, dataset: str, arm: str, seed: int) -> DdpmRun:
    """Base, then dataset, then arm.

    Raises:
        SpecError: unknown dataset, an arm that is not canonical, or a combination that the network refuses.
    """
    baseline = resolve_ddpm_baseline(spec, dataset)
    layers = merge(baseline.model_dump(), resolve_arm(arm, baseline))
    network = validate(DdpmNetwork, layers, f"ddpm {dataset} arm {arm!r}")
    fields = {"dataset": dataset, "arm": arm, "seed": seed, "network": network, "diffusion": spec.base.diffusion}
    return validate(DdpmRun, {**fields, "training": spec.datasets[dataset].training}, f"ddpm {dataset} arm {arm!r}")
