"""The ledger, ledger/STUDY/CASE.tsv: machine, software and wall time behind each output of a run. It is in git.

DVC's hash in dvc.lock identifies an output. An entry stays while its output is the same, so making the same bytes again
changes no file.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from pipeline.schema.base import SpecError, Strict, read_json, validate
from pipeline.schema.curve import read_rows
from pipeline.schema.files import replace_file
from pipeline.schema.study import Step


class Entry(Strict):
    """One output of one run. Only its hash is known if it was not made here, e.g. if it came from DVC's cache."""

    arm: str
    seed: int
    step: Step
    output: str = Field(description="DVC's hash of the step's output")
    seconds: float | None = Field(default=None, ge=0, description="wall time, including interrupted attempts")
    device: str | None = Field(default=None, description="name of the GPU, or cpu and its model")
    cpu: str | None = Field(default=None, description="CPU family, model, stepping, caches, digest of its flags")
    workers: int | None = Field(default=None, ge=1, description="number of processes, one per GPU")
    threads: int | None = Field(default=None, ge=1, description="CPU threads")
    portable: bool | None = Field(
        default=None, strict=False, description="whether every x86-64 CPU with AVX2 gives these bytes; empty for a GPU"
    )
    precision: str | None = None
    torch: str | None = Field(default=None, description="version of torch")
    git: str | None = Field(default=None, description="git revision of the code")
    finished: str | None = Field(default=None, description="time of the end, UTC")


def ledger_path(root: Path, study: str, case: str) -> Path:
    """The file of a ledger."""
    return root / "ledger" / study / f"{case}.tsv"


def write_ledger(path: Path, entries: Iterable[Entry]) -> None:
    """Write a ledger; unknown values are empty cells."""
    rows = [entry.model_dump() for entry in entries]  # a generator may still read the old file
    with replace_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(Entry.model_fields), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _parse(row: dict[str, str], file: str) -> Entry:
    numbers = {"seed": int, "seconds": float, "workers": int, "threads": int}
    try:
        filled = {key: numbers.get(key, str)(value) for key, value in row.items() if value}
    except (TypeError, ValueError) as error:
        raise SpecError(f"{file}: {error}") from None
    return validate(Entry, filled, file)


def read_ledger(path: Path) -> list[Entry]:
    """Read a ledger's entries, in the file's order; empty if there is no file.

    Raises:
        SpecError: it is damaged, or was written by another version.
    """
    try:
        rows = read_rows(path)
    except FileNotFoundError:
        return []
    return [_parse(row, f"{path}: row {number}") for number, row in enumerate(rows, 1)]


def _read_provenance(path: Path) -> dict[str, Any]:
    """Read a provenance file; empty if it is missing or damaged, as no result depends on it."""
    try:
        content = read_json(path, str(path))
    except (OSError, SpecError):
        return {}
    return content if isinstance(content, dict) else {}


def make_entry(arm: str, seed: int, step: Step, output: str, provenance: Path, known: Iterable[Entry]) -> Entry:
    """The ledger entry of an output: its known entry, else one from the provenance file if that matches the output.

    Args:
        provenance: the JSON file that the stage last wrote on this machine.
        known: the ledger so far.
    """
    for entry in known:
        if (entry.arm, entry.seed, entry.step, entry.output) == (arm, seed, step, output):
            return entry
    found, unknown = _read_provenance(provenance), Entry(arm=arm, seed=seed, step=step, output=output)
    if found.get("output") != output:
        return unknown
    try:
        facts = {
            "seconds": found["seconds"], "workers": found.get("workers", 1), "threads": found["compute"]["threads"],
            "device": found["gpu"] if found["device"] == "cuda" else f"cpu, {found['processor']}",
            "cpu": found["cpu"], "portable": None if found["device"] == "cuda" else found["portable"],
            "precision": found["compute"]["precision"], "torch": found["packages"]["torch"], "git": found["git"],
            "finished": found["finished"],
        }  # fmt: skip
    except (KeyError, TypeError):  # damaged, or written by another version
        return unknown
    try:
        return Entry(**(unknown.model_dump() | facts))
    except ValidationError as error:  # drop invalid values and keep the others
        wrong = {problem["loc"][0] for problem in error.errors()}
        return unknown.model_copy(update={key: value for key, value in facts.items() if key not in wrong})
