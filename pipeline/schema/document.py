"""JSON files that one stage hands to another, validated like what the user writes."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from pipeline.schema.base import SpecError, validate

ModelT = TypeVar("ModelT", bound=BaseModel)


def read_document(path: Path, model: type[ModelT]) -> ModelT:
    """Read a JSON file.

    Raises:
        SpecError: it is missing, is not JSON, or does not fit the model; one line that names the file.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: the file is missing") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not JSON: {error}") from None
    return validate(model, content, str(path))


def write_document(path: Path, content: BaseModel) -> None:
    """Write JSON, numbers at full precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content.model_dump(), indent=2) + "\n", encoding="utf-8")
