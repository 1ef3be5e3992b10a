"""The record: what an evaluation writes about one run, at records/STUDY/DATASET/ARM/SEED.json."""

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.schema.base import SpecError, Strict, validate


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
    initial: TimeAwareness | None = Field(description="time-awareness before the first step")
    trained: TimeAwareness | None = Field(description="time-awareness of the last epoch")


class Failure(Strict):
    """A run that ended before its last epoch: the solver gave up, or the loss is not finite."""

    status: Literal["failed"] = "failed"
    epoch: int = Field(ge=1, description="in which it ended")
    step: int = Field(ge=0, description="optimiser steps done by then, over all epochs")
    reason: str = Field(min_length=1)


class DdpmRecord(Strict):
    """The samples of one trained diffusion model against the training split."""

    status: Literal["completed"] = "completed"
    fid: float = Field(description="Frechet distance in the features of `extractor`")
    inception_score: float = Field(description="mean over splits, from the logits of `extractor`")
    inception_score_std: float = Field(ge=0, description="over splits; 0 with one split")
    images: int = Field(ge=2, description="samples")
    reference_images: int = Field(ge=2, description="images of the training split")
    isc_splits: int = Field(ge=1, description="splits of the score")
    sampling_steps: int = Field(ge=1, description="levels visited")
    training_steps: int = Field(ge=1, description="optimiser steps of the model")
    num_params: int = Field(ge=1, description="trained parameters")
    extractor: str = Field(description="name and first digits of the sha256 of its weights")


Record = NodeRecord | DdpmRecord
RECORDS: dict[str, type[NodeRecord] | type[DdpmRecord]] = {"node": NodeRecord, "ddpm": DdpmRecord}
_NUMBERS = (int, float, float | None)


def numeric_keys(study: str) -> list[str]:
    """The keys of a study's record that hold one number (or null): what tables, figures and claims can show."""
    return [name for name, field in RECORDS[study].model_fields.items() if field.annotation in _NUMBERS]


def record_path(root: Path, study: str, dataset: str, arm: str, seed: int) -> Path:
    """Where the record of a run stands."""
    return root / "records" / study / dataset / arm / f"{seed}.json"


def write_record(path: Path, record: Record | Failure) -> None:
    """Write a record, numbers at full precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record.model_dump(), indent=2) + "\n", encoding="utf-8")


def read_record(root: Path, study: str, dataset: str, arm: str, seed: int) -> Record | Failure | None:
    """The record of a run, or None where it is missing.

    Raises:
        SpecError: the file is not a record of this version.
    """
    path = record_path(root, study, dataset, arm, seed)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise SpecError(f"{path.relative_to(root)}: not JSON: {error}") from None
    file = str(path.relative_to(root))
    if isinstance(data, dict) and data.get("status") == "failed":
        return validate(Failure, data, file)
    return validate(RECORDS[study], data, file)
