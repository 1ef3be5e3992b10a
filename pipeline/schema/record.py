"""The record: what an evaluation writes about one run, at records/STUDY/DATASET/ARM/SEED.json."""

import json
from pathlib import Path

from pydantic import Field

from pipeline.schema.base import SpecError, Strict, validate


class NodeRecord(Strict):
    """One trained classifier on the test split. `best` is the epoch of the highest test accuracy (A13)."""

    accuracy: float = Field(ge=0, le=100, description="%, best epoch")
    accuracy_last: float = Field(ge=0, le=100, description="%, last epoch")
    nll: float = Field(description="mean negative log-likelihood in nats, best epoch")
    nll_last: float = Field(description="the same, last epoch")
    nfe: float = Field(
        ge=0, description="function evaluations of the forward solve, mean over batches, best epoch (A14)"
    )
    nfe_last: float = Field(ge=0, description="the same, last epoch")
    best_epoch: int = Field(ge=1, description="first epoch with the highest test accuracy")
    epochs: int = Field(ge=1, description="trained")
    images: int = Field(ge=1, description="of the test split")
    num_params: int = Field(ge=1, description="trained parameters")


class DdpmRecord(Strict):
    """The samples of one trained diffusion model against the training split."""

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


def record_path(root: Path, study: str, dataset: str, arm: str, seed: int) -> Path:
    """Where the record of a run stands."""
    return root / "records" / study / dataset / arm / f"{seed}.json"


def write_record(path: Path, record: Record) -> None:
    """Write a record, numbers at full precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record.model_dump(), indent=2) + "\n", encoding="utf-8")


def read_record(root: Path, study: str, dataset: str, arm: str, seed: int) -> Record | None:
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
    return validate(RECORDS[study], data, str(path.relative_to(root)))
