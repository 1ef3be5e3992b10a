"""The study `ddpm`: a diffusion model of images. Its fields, their validation, and its record."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.arm import Arm, Fixed
from pipeline.schema.base import MAX_WIDTH, SpecError, Strict
from pipeline.schema.data import INCEPTION_FEATURES, ClassifierExtractor, Dataset
from pipeline.schema.diffusion import Diffusion, OutputKind, Sampling
from pipeline.schema.foreign import PATTERN, Foreign
from pipeline.schema.record import Settings
from pipeline.schema.scores import Evaluation, Scores
from pipeline.schema.study import Curve, Run, Study, StudySpec


class DdpmNetwork(Strict):
    """The U-Net (the paper, section 4.2; score_sde_pytorch's ddpm).

    Choices that the paper leaves open are fields. The site of a residual block is where it adds the level's embedding.
    The order of the fields is their order in an arm's name.
    """

    position: Literal["none", "mlp"] = Field(
        "none",
        description="positional timestep embedding (the paper's Equation 6): a map [1, H, W] of the level, added at "
        "every site beside the channel-wise embedding",
    )
    position_input: Literal["embedding", "sinusoid", "mlp", "level"] = Field(
        "embedding",
        description="input of the map's linear layer: the level's embedding; the sinusoid before it; a hidden layer of "
        "its own on that sinusoid; or level / levels, without a bias",
    )
    position_maps: Literal["block", "resolution", "network"] = Field(
        "block",
        description="one map per block; one per resolution; or one of the image's size, averaged down to each block's",
    )
    position_init: Literal["default", "zero"] = Field(
        "default",
        description="initial weights of the map's layer: as in other linear layers, or zero, which starts as the "
        "baseline",
    )
    position_bias: Literal["branch", "zero", "default"] = Field(
        "branch", description="initial bias of the map's layer: as in the timestep branch, zero, or PyTorch's default"
    )
    position_mean: bool = Field(
        False,
        description="control: replace the map by its mean over pixels; equal parameters, no spatial freedom",
    )
    zero_bias: Literal["none", "conv", "time", "all"] = Field(
        "all",
        description="branches whose biases start at zero: convolutions, the timestep branch, or both; the others get "
        "PyTorch's default",
    )
    time_bias_scope: Literal["all", "sites", "embedding"] = Field(
        "all",
        description="layers of the timestep branch with nonzero initial biases, if zero_bias allows them: all, those "
        "that add at a site, or those of the level's embedding",
    )
    groups: int = Field(32, ge=1, le=MAX_WIDTH, description="groups G of every GroupNorm within groups_scope")
    groups_scope: Literal["all", "sites"] = Field(
        "all",
        description="where `groups` applies: everywhere, or in the norms after a site, with outer_groups elsewhere",
    )
    outer_groups: int = Field(32, ge=1, le=MAX_WIDTH, description="groups of the other norms under groups_scope=sites")
    up_attention: Literal["last", "each"] = Field(
        "last", description="on the way up, attention after the last residual block of a resolution, or after each"
    )
    channels: int = Field(128, ge=4, le=MAX_WIDTH, multiple_of=4, description="channels of the first resolution")
    channel_multipliers: list[Annotated[int, Field(ge=1, le=1024)]] = Field(
        [1, 2, 2, 2], min_length=1, max_length=8, description="channels of each resolution, as multiples of `channels`"
    )
    blocks: int = Field(
        2, ge=1, le=100, description="residual blocks per resolution on the way down; one more on the way up"
    )
    attention_sizes: list[int] = Field(
        [16], max_length=100, description="resolutions with self-attention, as sides in pixels"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout probability in every residual block")
    replicate: int = Field(
        0, ge=0, le=999, description="control: retrain the same network with other random numbers; 0: the seed's own"
    )
    weights: str = Field(
        "trained",
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        description="trained; or an entry of `imports` in specs/ddpm/study.yaml, whose weights are used as they are",
    )
    time: Literal["embedding", "none"] = Field(
        "embedding",
        description="how the level enters a site channel-wise; none: control without v_t; a positional map still may "
        "use the level",
    )
    norm: Literal["group", "batch", "instance", "layer"] = Field(
        "group",
        description="normalisation within groups_scope: everywhere, or in the norms after a site alone, with group and "
        "outer_groups elsewhere; instance: G = C at every width; batch: statistics of the current batch, always, so "
        "v_t cancels only where a batch shares its level; layer: over all channels and pixels, affine weights per "
        "element",
    )
    denoiser: Annotated[str | None, Foreign()] = Field(
        None,
        pattern=PATTERN,
        description="a network (x, level) of your own in place of the U-Net: module:factory in networks/; null: ours",
    )
    magnitude: Literal["none", "preserving", "forced"] = Field(
        "none",
        description="preserving: EDM2's layers, which keep magnitudes, in place of all norms and biases; forced: their "
        "weights are also set to unit magnitude before each step",
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
            if self.norm == "group" and (self.groups_scope == "all" or width in site_widths):
                uses.append(("groups", self.groups))
            if self.groups_scope == "sites":
                uses.append(("outer_groups", self.outer_groups))
            for name, groups in uses:
                if width % groups:
                    raise ValueError(f"{name} = {groups} does not divide {width} channels")
        return self


TRAINED = "trained"
"""The value of `weights` for weights that are trained here."""


def _is_told(run: "DdpmRun") -> bool:
    """Whether the level enters a site at all: there is a timestep branch."""
    return run.network.time != "none" or run.network.position != "none"


_EFFECTIVE: dict[str, tuple[str, Callable[["DdpmRun"], bool]]] = {
    "position_input": ("position=mlp", lambda run: run.network.position != "none"),
    "position_maps": ("position=mlp", lambda run: run.network.position != "none"),
    "position_init": ("position=mlp", lambda run: run.network.position != "none"),
    "position_bias": (
        "position=mlp, and a position_input other than level",
        lambda run: run.network.position != "none" and run.network.position_input != "level",
    ),
    "position_mean": ("position=mlp", lambda run: run.network.position != "none"),
    "zero_bias": (
        "a timestep branch: time=embedding or position=mlp",
        lambda run: _is_told(run) or run.network.zero_bias in ("none", "all"),
    ),
    "time_bias_scope": (
        "zero_bias=conv or zero_bias=none, and a timestep branch",
        lambda run: _is_told(run) and run.network.zero_bias in ("conv", "none"),
    ),
    "groups": ("norm=group", lambda run: run.network.norm == "group"),
    "groups_scope": (
        "groups other than outer_groups, or a norm other than group",
        lambda run: run.network.norm != "group" or run.network.groups != run.network.outer_groups,
    ),
    "ema_decay": ("ema=constant", lambda run: run.training.ema == "constant"),
    "outer_groups": ("groups_scope=sites", lambda run: run.network.groups_scope == "sites"),
    "data_sigma": (
        "parametrisation=edm or parametrisation=edm_full",
        lambda run: run.training.parametrisation in ("edm", "edm_full"),
    ),
    "ema_curve": ("ema=power", lambda run: run.training.ema == "power"),
}
"""Fields that have an effect only under a condition: its text for messages, and its test."""
_OF_TRAINING = ("position_init", "position_bias", "zero_bias", "time_bias_scope", "dropout", "replicate", "magnitude")
"""Fields without effect on imported weights."""
_OF_ANY_NETWORK = ("replicate", "denoiser")
"""Fields of the network that have an effect where it is not our U-Net."""
_OF_MAGNITUDES = (
    *("up_attention", "channels", "channel_multipliers", "blocks", "attention_sizes", "dropout", "replicate", "time"),
    "magnitude",
)
"""Fields of the network that have an effect where its layers keep magnitudes."""


class DdpmTraining(Strict):
    """The training recipe: Adam, linear warm-up, gradient clipping, exponential moving average of the weights."""

    image_size: Annotated[int, Fixed()] = Field(
        32, ge=4, le=1024, description="side in pixels to which images are resized when fetched"
    )
    steps: int = Field(1_300_000, ge=1, description="optimiser steps")
    batch_size: int = Field(128, ge=1, description="images per step")
    learning_rate: float = Field(2e-4, gt=0, description="learning rate after the warm-up")
    warmup: int = Field(5000, ge=0, description="steps over which the learning rate rises from 0")
    clip: float = Field(1.0, gt=0, description="maximum of the gradient's global norm")
    ema_decay: float = Field(
        0.9999, ge=0, lt=1, description="decay of the average; in step n (1 + n) / (10 + n) if that is smaller"
    )
    flip: bool = Field(True, description="horizontal flip with probability 1/2")
    snapshot_every: int = Field(
        50_000, ge=1, description="steps between snapshots of the averaged weights; the last ones are always kept"
    )
    fused: bool = Field(True, description="Adam in one kernel; faster, with other rounding")
    channels_last: bool = Field(False, description="memory layout of images and weights, in training and sampling")
    ema: Literal["constant", "power"] = Field(
        "constant",
        description="constant: by ema_decay; power: by t^g (EDM2), of the lengths 0.05 and 0.1, of which the latter is "
        "sampled; `python -m pipeline ema` makes others of all snapshots afterwards",
    )
    parametrisation: OutputKind = Field(
        "noise",
        description="what the output stands for: x0 = A x_t + B output; pipeline/diffusion/parametrisation.py",
    )
    data_sigma: float = Field(0.5, gt=0, description="standard deviation of the pixels that edm's coefficients assume")
    rate_decay: int | None = Field(
        None,
        ge=1,
        description="step from which the learning rate falls with the inverse square root of the step; null: it stays",
    )
    ema_curve: bool = Field(
        False, description="whether averages of other lengths, made afterwards, are sampled and scored too; a set each"
    )


class SampleSets(Strict):
    """samples/ddpm/CASE/ARM/SEED/samples.json, which describes the sample sets beside it."""

    steps: int = Field(ge=0, description="optimiser steps of the last weights; 0 for imported ones")
    snapshots: list[int] = Field(description="steps of the earlier snapshots that were sampled too, ascending")
    sampling: Sampling
    trace: str = Field(description="golden trace of the sampling code")
    lengths: list[float] = Field(
        default_factory=list, description="lengths of the averages of the last step that were sampled too, ascending"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        steps = [0, *self.snapshots, self.steps]
        if self.snapshots and any(a >= b for a, b in pairwise(steps)):
            raise ValueError(f"snapshots = {self.snapshots}: not ascending between 0 and steps = {self.steps}")
        return self


class Import(Strict):
    """Imported weights: a folder that diffusers' `DDPMPipeline` can load."""

    folder: str = Field(min_length=1, description="path, relative to the project or absolute")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="SHA-256 of its unet/diffusion_pytorch_model.safetensors"
    )


class DdpmSpec(StudySpec):
    """specs/ddpm/study.yaml, with the additional key `imports`."""

    imports: dict[str, Import] = Field(
        default_factory=dict, description="by an arm's `weights`, a name that ends in the first 12 digits of the sha256"
    )

    @model_validator(mode="after")
    def _check_imports(self) -> Self:
        for name, entry in self.imports.items():
            if not name.endswith(suffix := f"-{entry.sha256[:12]}"):
                raise ValueError(
                    f"imports.{name}: the name must end in {suffix}, the first digits of the sha256, "
                    "so that an arm with other weights has another name"
                )
        return self


class DdpmRun(Run):
    """One fully resolved run of the study. Sampling settings are not part of it."""

    study: Literal["ddpm"] = "ddpm"
    network: DdpmNetwork
    diffusion: Diffusion
    training: DdpmTraining


class LevelAwareness(Strict):
    """How much a U-Net's residual blocks depend on the level, at the norm after each site.

    Relative change at a level: ||n(level) - n(0)|| / ||n(0)||. n is the output of the norm, computed with the block's
    input held fixed. Share: the mean variance over levels (0 and `levels`) of one value of n, divided by the variance
    of all its values. Null: the divisor is zero.
    """

    levels: list[int] = Field(description="levels, ascending, each compared with level 0")
    block_change: list[list[float | None]] = Field(description="relative change in each block at each of `levels`")
    block_share: list[float | None] = Field(description="share of the variance that the level makes, per block")


class NoiseLosses(Strict):
    """DDPM's loss on the test split at 20 levels, with the same noise for all arms and seeds: by true level.

    The loss is the mean squared error of the predicted noise per pixel, of the last averaged weights.
    """

    levels: list[int] = Field(description="true levels, ascending: the midpoints of 20 equal parts")
    right: list[float] = Field(description="loss at each of `levels`, told the right level")
    shuffled: list[float] = Field(description="the same, told a level shuffled over all pairs of level and image")
    mean_level: list[float] = Field(description="the same, told the mean of `levels`")


class SnapshotScores(Strict):
    """Scores of the first sample set of one snapshot: the averaged weights after `step` steps."""

    step: int = Field(ge=0)
    scores: Scores


class LengthScores(Strict):
    """Scores of the first sample set of one post-hoc average after the last step."""

    length: float = Field(gt=0, description="relative standard deviation of its profile t^g")
    scores: Scores


class Protocol(Strict):
    """The protocol of the scores."""

    images: int = Field(ge=2, description="images of a sample set")
    sets: int = Field(ge=1, description="number of disjoint sample sets of the last weights")
    reference_images: int = Field(ge=2, description="images of the reference: the whole training split, unflipped")
    extractor: str = Field(description="name of the network that gives features and logits")
    extractor_sha256: str = Field(description="SHA-256 of its weights")
    features: int = Field(ge=1, description="dimension of the features")
    isc_splits: int = Field(ge=2)
    kid_subsets: int = Field(ge=1)
    kid_subset_size: int = Field(ge=2)
    weights: str = Field(description="trained, or the name of the import")
    sampler: str
    sampling_steps: int = Field(ge=1, description="sampling steps: number of levels visited")
    clip: bool
    labels: str
    variance: str
    quantisation: str
    versions: dict[str, str] = Field(description="versions of torch, torch-fidelity and numpy")


class DdpmRecord(Strict):
    """The record of one diffusion model: scores of its samples against the training split.

    Unless a field says otherwise, a score is the mean over the sample sets of the last averaged weights.
    """

    status: Literal["completed"] = "completed"
    fid: float = Field(description="Frechet distance")
    fid_spread: float | None = Field(ge=0, description="sample standard deviation of the FID over sets; null: one set")
    fid_best: float = Field(description="lowest FID over snapshots and last weights, first set of each")
    best_snapshot: int = Field(ge=0, description="training steps of the weights with the lowest FID")
    kid: float = Field(description="kernel distance, mean over subsets")
    inception_score: float = Field(description="all images of a set at once, logits without bias")
    inception_score_split: float = Field(description="mean over splits, logits without bias")
    inception_score_biased: float = Field(description="all images of a set at once, logits with bias")
    inception_score_biased_split: float = Field(description="mean over splits, logits with bias")
    change_initial: float | None = Field(
        description="relative change from the first to the last level after the sites' norms, mean, untrained"
    )
    change: float | None = Field(description="the same, last averaged weights")
    share_initial: float | None = Field(
        description="share of variance that the level makes, mean over sites, untrained"
    )
    share: float | None = Field(description="the same, last averaged weights")
    training_steps: int = Field(ge=0, description="optimiser steps; 0 for imported weights")
    num_params: int = Field(ge=1, description="number of trained parameters")
    sets: list[Scores] = Field(min_length=1, description="scores of each sample set of the last weights")
    snapshots: list[SnapshotScores] = Field(min_length=1, description="by steps, ascending; the last weights come last")
    protocol: Protocol
    settings: Settings
    initial: LevelAwareness | None = Field(
        description="level-awareness before training; null for imported weights, and of a network that is not ours"
    )
    trained: LevelAwareness | None = Field(description="level-awareness of the last averaged weights; null likewise")
    noise_loss: float | None = Field(
        None,
        ge=0,
        description="DDPM's loss on the test split, mean over 20 levels, noise the same for all arms and seeds; null: "
        "not measured then",
    )
    noise_loss_shuffled: float | None = Field(None, ge=0, description="the same, told shuffled levels")
    noise_loss_mean_level: float | None = Field(None, ge=0, description="the same, told the mean level always")
    time_use: float | None = Field(
        None, description="noise_loss_mean_level - noise_loss: what the network makes of the level"
    )
    noise_losses: NoiseLosses | None = Field(None, description="these losses level by level")
    fid_length: float | None = Field(None, description="lowest FID over lengths of the average; null: one was sampled")
    best_length: float | None = Field(None, description="the length of that average")
    lengths: list[LengthScores] = Field(default_factory=list, description="by length, ascending")


def _check_arm(run: DdpmRun, arm: Arm, spec: DdpmSpec) -> None:
    """Refuse unknown weights, and an override without effect, so that one variant has one name."""
    network = run.network
    for name in arm.overrides:
        if network.denoiser is not None and name in DdpmNetwork.model_fields and name not in _OF_ANY_NETWORK:
            raise SpecError(f"arm {str(arm)!r}: {name} changes nothing: it is of our U-Net, not of {network.denoiser}")
        if network.magnitude != "none" and name in DdpmNetwork.model_fields and name not in _OF_MAGNITUDES:
            raise SpecError(f"arm {str(arm)!r}: {name} changes nothing with magnitude={network.magnitude}")
        if network.weights != TRAINED and (name in _OF_TRAINING or name in DdpmTraining.model_fields):
            raise SpecError(f"arm {str(arm)!r}: {name} changes nothing: weights={network.weights} is not trained here")
        needs, has_effect = _EFFECTIVE.get(name, ("", lambda run: True))
        if not has_effect(run):
            raise SpecError(f"arm {str(arm)!r}: {name} changes nothing without {needs}")
    if network.weights not in (TRAINED, *spec.imports):
        known = ", ".join([TRAINED, *spec.imports])
        raise SpecError(
            f"arm {str(arm)!r}: weights = {network.weights!r}: not in specs/ddpm/study.yaml: imports; allowed: {known}"
        )


def _check_case(baseline: DdpmRun, later: Mapping[str, Any], dataset: Dataset) -> None:
    network, size = baseline.network, baseline.training.image_size
    halvings = 2 ** (len(network.channel_multipliers) - 1)
    if size % halvings:
        raise SpecError(f"training.image_size = {size}: not divisible by {halvings}, the U-Net's total stride")
    sampling, levels = later["sampling"], baseline.diffusion.levels
    if sampling.steps > levels:
        raise SpecError(f"sampling.steps = {sampling.steps}: allowed are 1 to {levels}, the levels")
    _check_budget(baseline.training, later["sampling"], later["evaluation"], dataset)


def _check_budget(training: DdpmTraining, sampling: Sampling, evaluation: Evaluation, dataset: Dataset) -> None:
    """Refuse budgets with too few images now; the evaluation would refuse them only after the training."""
    train, images = dataset.train_images, sampling.images
    limits = {
        "training.batch_size": (training.batch_size, train, "the training images"),
        "evaluation.isc_splits": (evaluation.isc_splits, images, "the images of a set"),
        "evaluation.kid_subset_size": (
            evaluation.kid_subset_size,
            min(train, images),
            "the training images, and those of a set",
        ),
    }
    for key, (value, most, whose) in limits.items():
        if value > most:
            raise SpecError(f"{key} = {value}: at most {most} are allowed: {whose}")
    extractor = dataset.extractor
    features = extractor.features if isinstance(extractor, ClassifierExtractor) else INCEPTION_FEATURES
    if images <= features:
        raise SpecError(
            f"sampling.images = {images}: a covariance of {features} features, which the FID needs, takes at "
            f"least {features + 1} images"
        )
    if train <= features:
        raise SpecError(
            f"evaluation: the extractor's features = {features} (specs/data.yaml): allowed are 2 to {train - 1}: fewer "
            "than the training images, whose covariance the FID needs"
        )


def _trace_fid(record: DdpmRecord, curve: Curve) -> Sequence[tuple[int, float]]:
    """(step, FID) of the snapshots."""
    return [(snapshot.step, snapshot.scores.fid) for snapshot in record.snapshots]


def _list_sets(record: DdpmRecord) -> list[dict[str, float]]:
    return [scores.model_dump() for scores in record.sets]


STUDY = Study(
    name="ddpm",
    run=DdpmRun,
    record=DdpmRecord,
    later={"sampling": Sampling, "evaluation": Evaluation},
    spec=DdpmSpec,
    extractor=True,
    steps=("train", "sample", "evaluate"),
    curves=(
        Curve("loss", "step", "loss", "training loss"),
        Curve("fid", "step", None, "FID, first sample set"),
    ),
    points=_trace_fid,
    sets=_list_sets,
    check_arm=_check_arm,
    check_case=_check_case,
    kept=("train_ddpm", "sample"),
    traces="pipeline.studies.ddpm.traces",
    views="pipeline.studies.ddpm.views",
    costs="pipeline.studies.ddpm.cost",
)
