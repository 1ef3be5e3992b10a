"""The record: what an evaluation writes about one run.

The evaluation's own file is evaluations/STUDY/CASE/ARM/SEED.json, in DVC's cache; records/ has the same in git.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from pipeline.schema.base import OUTDATED, Strict, flatten, read_json, validate
from pipeline.schema.files import write_json
from pipeline.schema.study import find_study

Settings = dict[str, Any]
"""What a run was made from: `network.groups: 32`, `training.epochs: 8`, ..., as specs/ and params.yaml had it."""


def list_settings(**parts: BaseModel | None) -> Settings:
    """Settings by part and key, as JSON has them; a part that is None decided nothing."""
    return flatten({name: part.model_dump(mode="json") for name, part in parts.items() if part is not None})


class Failure(Strict):
    """A run that ended before its last step: the solver gave up, or the loss is not finite."""

    status: Literal["failed"] = "failed"
    epoch: int = Field(ge=1, description="in which it ended")
    step: int = Field(ge=0, description="optimiser steps done by then, over all epochs")
    reason: str = Field(min_length=1)
    settings: Settings = Field(default_factory=dict, description="in a record; the run's own file has none")


Record = Any
"""A completed run's record, of its study's own model."""


def record_path(root: Path, study: str, case: str, arm: str, seed: int) -> Path:
    """Where the record of a run stands."""
    return root / "records" / study / case / arm / f"{seed}.json"


def evaluation_path(root: Path, study: str, case: str, arm: str, seed: int) -> Path:
    """Where the evaluation of a run writes its record."""
    return root / "evaluations" / study / case / arm / f"{seed}.json"


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record, numbers at full precision."""
    write_json(path, record.model_dump())


def read_record(root: Path, study: str, case: str, arm: str, seed: int) -> Record | Failure | None:
    """The record of a run, or None where it is missing.

    Raises:
        SpecError: the file is not a record of this version.
    """
    path = record_path(root, study, case, arm, seed)
    file = str(path.relative_to(root))
    try:
        data = read_json(path, file)
    except FileNotFoundError:
        return None
    if isinstance(data, dict) and data.get("status") == "failed":
        return validate(Failure, data, file, advice=OUTDATED)
    return validate(find_study(study).record, data, file, advice=OUTDATED)
