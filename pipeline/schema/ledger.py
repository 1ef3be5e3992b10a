"""The ledger: ledger/STUDY/CASE.tsv, what made each output of a run: where, with what, how long. In git.

An output is known by DVC's hash of it, as dvc.lock has it. An entry is kept as long as the output is the same, so that
making the same bytes again changes no file.
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
    """One output of one run. Where it was not made here, as when DVC's cache had it, nothing more is known of it."""

    arm: str
    seed: int
    step: Step
    output: str = Field(description="DVC's hash of what the step wrote")
    seconds: float | None = Field(default=None, ge=0, description="wall time, of all its parts if it was interrupted")
    device: str | None = Field(default=None, description="the GPU's name, or cpu with its model")
    cpu: str | None = Field(default=None, description="family, model, stepping, caches, a digest of its flags")
    workers: int | None = Field(default=None, ge=1, description="GPUs at work")
    threads: int | None = Field(default=None, ge=1, description="CPU threads")
    portable: bool | None = Field(
        default=None, strict=False, description="whether every x86-64 CPU with AVX2 gives these bytes; empty on a GPU"
    )
    precision: str | None = None
    torch: str | None = Field(default=None, description="its version")
    git: str | None = Field(default=None, description="revision of the code")
    finished: str | None = Field(default=None, description="UTC")


def ledger_path(root: Path, study: str, case: str) -> Path:
    """Where a ledger stands."""
    return root / "ledger" / study / f"{case}.tsv"


def write_ledger(path: Path, entries: Iterable[Entry]) -> None:
    """Write a ledger; an empty cell is what is not known."""
    rows = [entry.model_dump() for entry in entries]  # before the file is emptied, which they may come from
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
    """Entries in the file's order; none where there is no file.

    Raises:
        SpecError: it is not a ledger of this version.
    """
    try:
        rows = read_rows(path)
    except FileNotFoundError:
        return []
    return [_parse(row, f"{path}: row {number}") for number, row in enumerate(rows, 1)]


def _read_provenance(path: Path) -> dict[str, Any]:
    """What a stage wrote about its last end; empty where it is missing or damaged, as nothing depends on it."""
    try:
        content = read_json(path, str(path))
    except (OSError, SpecError):
        return {}
    return content if isinstance(content, dict) else {}


def make_entry(arm: str, seed: int, step: Step, output: str, provenance: Path, known: Iterable[Entry]) -> Entry:
    """The entry of an output: the one it has, or one from its provenance if that speaks of this very output.

    Args:
        provenance: the JSON file of the stage's last end here.
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
    except (KeyError, TypeError):  # another version's, or damaged
        return unknown
    try:
        return Entry(**(unknown.model_dump() | facts))
    except ValidationError as error:  # what cannot be is not known; the other facts are
        wrong = {problem["loc"][0] for problem in error.errors()}
        return unknown.model_copy(update={key: value for key, value in facts.items() if key not in wrong})
