"""Reads and writes the outputs of a training: weights, history, golden trace; explains why a run failed."""

import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.data.arrays import ADVICE
from pipeline.run.process import is_out_of_memory
from pipeline.schema.base import OUTDATED, SpecError, read_json
from pipeline.schema.files import replace_file

OUT_OF_MEMORY = "out of memory"

RunT = TypeVar("RunT", bound=BaseModel)


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors on the CPU: of names, types, shapes and values, not of the file's layout."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, with their digest; the bytes do not depend on the device."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with replace_file(path) as partial:
        save_file(tensors, partial, metadata={"sha256": digest_tensors(tensors)})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read what `write_weights` wrote.

    Raises:
        SpecError: the file is missing or damaged.
    """
    if not path.is_file():  # safetensors would raise an untyped error
        raise SpecError(f"{path}: the file is missing")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            expected = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise SpecError(f"{path}: not a whole safetensors file: {str(error).splitlines()[0]}; {ADVICE}") from None
    if digest_tensors(tensors) != expected:
        raise SpecError(f"{path}: not the content that was written to it; {ADVICE}")
    return tensors


def load_weights(path: Path, network: nn.Module) -> None:
    """Load weights that `write_weights` wrote into a network.

    Raises:
        SpecError: the file is missing or damaged, or the weights are another network's.
    """
    try:
        network.load_state_dict(read_weights(path), strict=True)
    except RuntimeError as error:
        raise SpecError(f"{path}: not this network's weights: {str(error).splitlines()[0]}") from None


def write_history(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, float | int | None]]) -> None:
    """Write a tab-separated file, one line per row; floats in their shortest exact form, None as an empty cell."""
    with replace_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_trace(path: Path) -> str:
    """Read the golden trace that a training wrote.

    Raises:
        SpecError: the file is missing, or is not a golden trace.
    """
    try:
        content = read_json(path, str(path))
    except FileNotFoundError:
        raise SpecError(f"{path}: not there: nothing to compare with") from None
    if not isinstance(content, dict) or not isinstance(content.get("trace"), str):
        raise SpecError(f"{path}: not a golden trace{OUTDATED}")
    return str(content["trace"])


class DivergedError(ArithmeticError):
    """The loss is not finite."""


def check_finite(value: float, what: str) -> float:
    """Return the value if it is finite.

    Args:
        what: the quantity, for the message.

    Raises:
        DivergedError: the value is NaN or infinite.
    """
    if not math.isfinite(value):
        raise DivergedError(f"{what} is {value}: the training diverged")
    return value


def explain_failure(error: ArithmeticError | RuntimeError | MemoryError) -> str:
    """The reason of a failed run, for its record: the solver gave up, the loss is not finite, or memory ran out.

    Out of memory depends on the machine more than on the run. It is recorded too, so that the other runs go on.

    Raises:
        RuntimeError: `error` itself if it is anything else; that is a bug of ours.
    """
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, ArithmeticError):
        return str(error)
    raise error
