"""The record: what an evaluation writes about one run.

The evaluation's own file is evaluations/STUDY/DATASET/ARM/SEED.json, in DVC's cache; records/ has the same in git.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from pipeline.schema.base import OUTDATED, Strict, flatten, read_json, validate
from pipeline.schema.files import write_json

Settings = dict[str, Any]
"""What a run was made from: `network.groups: 32`, `training.epochs: 8`, ..., as specs/ and params.yaml had it."""


def list_settings(**parts: BaseModel | None) -> Settings:
    """Settings by part and key, as JSON has them; a part that is None decided nothing."""
    return flatten({name: part.model_dump(mode="json") for name, part in parts.items() if part is not None})


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
    """One trained classifier on the test split. `best` is the epoch of the highest test accuracy (A13).

    NFE: function evaluations of a solve, mean over batches (A14); null without an ODE block.
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


class Failure(Strict):
    """A run that ended before its last step: the solver gave up, or the loss is not finite."""

    status: Literal["failed"] = "failed"
    epoch: int = Field(ge=1, description="in which it ended")
    step: int = Field(ge=0, description="optimiser steps done by then, over all epochs")
    reason: str = Field(min_length=1)
    settings: Settings = Field(default_factory=dict, description="in a record; the run's own file has none")


class LevelAwareness(Strict):
    """How much a U-Net's residual blocks depend on the level, at the norm that follows each site.

    Relative change at a level: ||n(level) - n(0)|| / ||n(0)||, n the output of the norm, with the convolution's output
    before it held fixed. Share: the variance of n over `levels` and 0 at fixed image, channel and pixel, averaged, over
    its whole variance. Null: the divisor is zero.
    """

    levels: list[int] = Field(description="of each change, ascending; compared with level 0")
    block_change: list[list[float | None]] = Field(description="relative change in each block, at each of `levels`")
    block_share: list[float | None] = Field(
        description="share of the variance of each block's norm that the level makes"
    )


class Scores(Strict):
    """One sample set against the training split; IS: Inception Score from the extractor's logits."""

    fid: float = Field(description="Frechet distance of the features")
    kid: float = Field(description="kernel distance of the features, mean over subsets")
    inception_score: float = Field(description="all images at once, logits without their bias")
    inception_score_split: float = Field(description="mean over splits, logits without their bias")
    inception_score_split_std: float = Field(ge=0, description="over those splits")
    inception_score_biased: float = Field(description="all images at once, logits as they are")
    inception_score_biased_split: float = Field(description="mean over splits, logits as they are")
    inception_score_biased_split_std: float = Field(ge=0, description="over those splits")


class SnapshotScores(Strict):
    """The first sample set of the averaged weights after so many steps."""

    step: int = Field(ge=0)
    scores: Scores


class Protocol(Strict):
    """How the scores came about."""

    images: int = Field(ge=2, description="of a sample set")
    sets: int = Field(ge=1, description="disjoint sample sets of the last weights")
    reference_images: int = Field(ge=2, description="all of the training split, unflipped")
    extractor: str = Field(description="what gives features and logits")
    extractor_sha256: str = Field(description="of its weights")
    features: int = Field(ge=1, description="their dimension")
    isc_splits: int = Field(ge=2)
    kid_subsets: int = Field(ge=1)
    kid_subset_size: int = Field(ge=2)
    weights: str = Field(description="trained, or the name of the import")
    sampler: str
    sampling_steps: int = Field(ge=1, description="levels visited")
    clip: bool
    labels: str
    variance: str
    quantisation: str
    versions: dict[str, str] = Field(description="of torch, torch-fidelity and numpy")


class DdpmRecord(Strict):
    """The samples of one trained diffusion model against the training split.

    Of the averaged weights after the last step, means over the sample sets, unless said otherwise.
    """

    status: Literal["completed"] = "completed"
    fid: float = Field(description="Frechet distance")
    fid_spread: float | None = Field(ge=0, description="sample standard deviation over the sets; null: one set")
    fid_best: float = Field(description="lowest of the snapshots and the last weights, first set of each (A22)")
    best_snapshot: int = Field(ge=0, description="steps of that lowest one")
    kid: float = Field(description="kernel distance, mean over subsets")
    inception_score: float = Field(description="all images of a set at once, logits without their bias")
    inception_score_split: float = Field(description="mean over splits, logits without their bias")
    inception_score_biased: float = Field(description="all images of a set at once, logits as they are")
    inception_score_biased_split: float = Field(description="mean over splits, logits as they are")
    change_initial: float | None = Field(
        description="relative change from the first to the last level of the norms after the sites, mean, untrained"
    )
    change: float | None = Field(description="the same, last averaged weights")
    share_initial: float | None = Field(
        description="share of those norms' variance that the level makes, mean, untrained"
    )
    share: float | None = Field(description="the same, last averaged weights")
    training_steps: int = Field(ge=0, description="optimiser steps; 0 of imported weights")
    num_params: int = Field(ge=1, description="trained parameters")
    sets: list[Scores] = Field(min_length=1, description="of the last weights")
    snapshots: list[SnapshotScores] = Field(min_length=1, description="ascending; the last weights come last")
    protocol: Protocol
    settings: Settings
    initial: LevelAwareness | None = Field(description="before the first step; null of imported weights")
    trained: LevelAwareness = Field(description="of the last averaged weights")


Record = NodeRecord | DdpmRecord
RECORDS: dict[str, type[NodeRecord] | type[DdpmRecord]] = {"node": NodeRecord, "ddpm": DdpmRecord}
_NUMBERS = (int, float, float | None)


def numeric_keys(study: str) -> list[str]:
    """The keys of a study's record that hold one number (or null): what tables, figures and claims can show."""
    return [name for name, field in RECORDS[study].model_fields.items() if field.annotation in _NUMBERS]


def record_path(root: Path, study: str, dataset: str, arm: str, seed: int) -> Path:
    """Where the record of a run stands."""
    return root / "records" / study / dataset / arm / f"{seed}.json"


def evaluation_path(root: Path, study: str, dataset: str, arm: str, seed: int) -> Path:
    """Where the evaluation of a run writes its record."""
    return root / "evaluations" / study / dataset / arm / f"{seed}.json"


def write_record(path: Path, record: Record | Failure) -> None:
    """Write a record, numbers at full precision."""
    write_json(path, record.model_dump())


def read_record(root: Path, study: str, dataset: str, arm: str, seed: int) -> Record | Failure | None:
    """The record of a run, or None where it is missing.

    Raises:
        SpecError: the file is not a record of this version.
    """
    path = record_path(root, study, dataset, arm, seed)
    file = str(path.relative_to(root))
    try:
        data = read_json(path, file)
    except FileNotFoundError:
        return None
    if isinstance(data, dict) and data.get("status") == "failed":
        return validate(Failure, data, file, advice=OUTDATED)
    return validate(RECORDS[study], data, file, advice=OUTDATED)
