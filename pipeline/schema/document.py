"""JSON files that one stage writes and another reads, validated like the user's own files."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from pipeline.schema.base import OUTDATED, SpecError, read_json, validate
from pipeline.schema.files import write_json

ModelT = TypeVar("ModelT", bound=BaseModel)


def read_document(path: Path, model: type[ModelT]) -> ModelT:
    """Read and validate a JSON file.

    Raises:
        SpecError: it is missing, is not JSON, or does not fit the model, e.g. because another version wrote it.
    """
    try:
        content = read_json(path, str(path))
    except FileNotFoundError:
        raise SpecError(f"{path}: the file is missing") from None
    return validate(model, content, str(path), advice=OUTDATED)


def write_document(path: Path, content: BaseModel) -> None:
    """Write a model as JSON, with numbers at full precision."""
    write_json(path, content.model_dump())
