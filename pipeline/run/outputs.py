"""What a training writes: the resolved run, weights, and a history that `dvc plots` reads."""

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
    """SHA-256 of tensors on the CPU, whatever their layout in a file."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors with a digest of them; independent of the device they were on."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with replace_file(path) as partial:
        save_file(tensors, partial, metadata={"sha256": digest_tensors(tensors)})


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read what `write_weights` wrote.

    Raises:
        SpecError: the file is missing or damaged.
    """
    if not path.is_file():  # safetensors' own error has no type
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
    """Load weights that `write_weights` wrote.

    Raises:
        SpecError: the file is damaged, or is of another network.
    """
    try:
        network.load_state_dict(read_weights(path), strict=True)
    except RuntimeError as error:
        raise SpecError(f"{path}: not this network's weights: {str(error).splitlines()[0]}") from None


def write_history(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, float | int | None]]) -> None:
    """Write one line a row, tab-separated; floats in their shortest exact form, nothing for None."""
    with replace_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_trace(path: Path) -> str:
    """The golden trace that a training wrote.

    Raises:
        SpecError: there is none.
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
    """The value itself.

    Raises:
        DivergedError: it is NaN or infinite.
    """
    if not math.isfinite(value):
        raise DivergedError(f"{what} is {value}: the training diverged")
    return value


def explain_failure(error: ArithmeticError | RuntimeError | MemoryError) -> str:
    """Why a run cannot go on, as its record says it: the solver gave up, the loss is not finite, memory ran out.

    The last depends on the machine more than on the run. It is recorded nevertheless, so that the other runs go on.

    Raises:
        RuntimeError: `error` itself, any other: a mistake of ours.
    """
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, ArithmeticError):
        return str(error)
    raise error
