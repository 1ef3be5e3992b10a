"""The record of a run: the numbers that its evaluation writes.

The evaluation writes evaluations/STUDY/CASE/ARM/SEED.json, which is in DVC's cache. records/ has a copy in git.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from pipeline.schema.base import OUTDATED, Strict, flatten, read_json, validate
from pipeline.schema.files import write_json
from pipeline.schema.study import find_study

Settings = dict[str, Any]
"""Settings of a run by dotted key: `network.groups: 32`, `training.epochs: 8`, ..."""


def list_settings(**parts: BaseModel | None) -> Settings:
    """Settings as JSON values, by `part.field`; parts that are None are left out."""
    return flatten({name: part.model_dump(mode="json") for name, part in parts.items() if part is not None})


class Failure(Strict):
    """The record of a failed run: the solver gave up, the loss was not finite, or memory ran out."""

    status: Literal["failed"] = "failed"
    epoch: int = Field(ge=1, description="epoch in which it failed, from 1")
    step: int = Field(ge=0, description="optimiser steps done before it failed, over all epochs")
    reason: str = Field(min_length=1)
    settings: Settings = Field(default_factory=dict, description="settings of the run; empty in failure.json")


Record = Any
"""The record of a completed run; an instance of the study's record model."""


def record_path(root: Path, study: str, case: str, arm: str, seed: int) -> Path:
    """The file of a run's record, in git."""
    return root / "records" / study / case / arm / f"{seed}.json"


def evaluation_path(root: Path, study: str, case: str, arm: str, seed: int) -> Path:
    """The file to which the evaluation of a run writes its record."""
    return root / "evaluations" / study / case / arm / f"{seed}.json"


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record, with numbers at full precision."""
    write_json(path, record.model_dump())


def read_record(root: Path, study: str, case: str, arm: str, seed: int) -> Record | Failure | None:
    """Read the record of a run; None if there is none.

    Raises:
        SpecError: the file is damaged, or was written by another version.
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
