"""What the project reads, each with whole files to damage: settings, records, curves, ledgers, arrays, states."""

import contextlib
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from panels import ddpm_record, failure, node_record
from pipeline.schema.theory import PATH as THEORY
from pipeline.schema.theory import read_theory
from pipeline.studies.ddpm.documents import TrainedModel
from problems import ROOT
from torch import nn
from trainings import ddpm_run, make_checkpoint
from workspace import check_out, copy_settings

from pipeline.__main__ import count_params
from pipeline.data.arrays import Split, read_split, write_arrays, write_split
from pipeline.report.terminal import print_tables
from pipeline.run.outputs import load_weights, read_run, write_history, write_run, write_weights
from pipeline.schema.architecture import PATH as ARCHITECTURE
from pipeline.schema.architecture import Architecture
from pipeline.schema.curve import CURVES, Point, read_curve, read_history, write_curve
from pipeline.schema.document import read_document, write_document
from pipeline.schema.files import write_json
from pipeline.schema.ledger import Entry, enter, read_ledger, write_ledger
from pipeline.schema.project import load_project
from pipeline.schema.record import read_record, record_path, write_record
from pipeline.studies.ddpm.samples import read_set
from pipeline.studies.ddpm.study import DdpmRun, SampleSets, load_ddpm_spec


@dataclass(frozen=True)
class File:
    """A whole file, and how a user's command reads it."""

    path: Path
    read: Callable[[], object]
    names: str
    """What a refusal must name."""


@dataclass(frozen=True)
class Target:
    """Files that are read alike."""

    name: str
    share: int
    """Of all inputs, relative."""
    files: list[File]


def use_project(root: Path) -> None:
    """What `check` and `show` do, of one run in ten."""
    project = load_project(root)
    runs = project.runs()
    for run in {run.study: run for run in runs[:: max(1, len(runs) // 4)]}.values():
        count_params(project, run)


def _list_settings(root: Path) -> list[File]:
    paths = [root / "params.yaml", *sorted((root / "specs").rglob("*.yaml"))]
    # Two files can disagree: then either of them may be named.
    return [File(path, lambda: use_project(root), ".yaml") for path in paths]


def _list_records(root: Path, read: Callable[..., object]) -> list[File]:
    """One record of each kind; `read` is called with study, dataset, arm and seed."""
    written = {
        ("node", "baseline", 0): node_record(91.0),
        ("node", "norm=batch", 1): failure(),
        ("ddpm", "baseline", 0): ddpm_record(9.0, 10.0),
    }
    found = []
    for (study, arm, seed), record in written.items():
        path = record_path(root, study, "digits", arm, seed)
        write_record(path, record)
        found.append(File(path, partial(read, study, "digits", arm, seed), str(path.relative_to(root))))
    return found


def _list_documents(root: Path) -> list[File]:
    """JSON that one stage hands to another, and what the report reads from records/."""
    run, network = root / "run.json", ddpm_run()
    write_run(run, network, 1000, None)
    samples, entry = root / "samples.json", root / "provenance.json"
    sampling = load_ddpm_spec(ROOT).datasets["digits"].sampling
    write_document(samples, SampleSets(steps=6, snapshots=[3], sampling=sampling))
    write_json(entry, {
        "output": "abc", "seconds": 1.5, "device": "cpu", "gpu": None, "processor": "x", "cpu": "y", "portable": True,
        "compute": {"threads": 1,
        "precision": "float32"}, "packages": {"torch": "2.0"}, "git": "abc", "finished": "2026-01-01T00:00:00Z",
    })  # fmt: skip
    return [
        File(run, lambda: read_run(run, DdpmRun), str(run)),
        File(run, lambda: read_document(run, TrainedModel), str(run)),
        File(samples, lambda: read_document(samples, SampleSets), str(samples)),
        File(entry, lambda: enter("baseline", 0, "train", "abc", entry, []), str(entry)),
        File(root / THEORY, lambda: read_theory(root), str(THEORY)),
        File(root / ARCHITECTURE, lambda: read_document(root / ARCHITECTURE, Architecture), str(ARCHITECTURE)),
    ]


def _list_tables(root: Path) -> list[File]:
    """Curves, a history, and a ledger."""
    curve = CURVES["node"][0]
    points, history, ledger = root / "curve.tsv", root / "history.tsv", root / "ledger.tsv"
    write_curve(points, curve, [Point("baseline", seed, epoch, 90.5) for seed in (0, 1) for epoch in (1, 2, 3)])
    write_history(history, ["epoch", "loss"], [{"epoch": epoch, "loss": 0.5} for epoch in (1, 2, 3)])
    entry = Entry(arm="norm=batch", seed=1, step="train", output="abc", seconds=1.5, device="cpu, x", threads=1)
    write_ledger(ledger, [entry, entry.model_copy(update={"seed": 2})])
    return [
        File(points, lambda: read_curve(points, curve), str(points)),
        File(history, lambda: read_history(history), str(history)),
        File(ledger, lambda: read_ledger(ledger), str(ledger)),
    ]


def _list_arrays(root: Path) -> list[File]:
    split, samples = root / "split.safetensors", root / "set.safetensors"
    images = np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8)
    write_split(split, Split(images, np.arange(2), 2))
    write_arrays(samples, {"images": images})
    return [
        File(split, lambda: read_split(split), str(split)),
        File(samples, lambda: read_set(samples, 2, [1, 8, 8]), str(samples)),
    ]


def _list_weights(root: Path) -> list[File]:
    path = root / "weights.safetensors"
    write_weights(path, nn.Linear(3, 2).state_dict())
    return [File(path, lambda: load_weights(path, nn.Linear(3, 2)), str(path))]


def _list_states(root: Path) -> list[File]:
    """The state of an interrupted training."""
    folder = root / "work"
    with make_checkpoint(folder) as checkpoint:
        checkpoint.load()
        checkpoint.save({"weights": torch.arange(6.0), "step": torch.tensor(4)}, {"row": [1, None, 0.1]})

    def read() -> object:
        with make_checkpoint(folder) as checkpoint:
            return checkpoint.load()

    return [File(path, read, str(path)) for path in folder.glob("*.safetensors")]


def list_targets(root: Path) -> list[Target]:
    """Everything, in a folder that is made here."""
    settings, results, other = root / "settings", root / "results", root / "other"
    for folder in (settings, results):
        copy_settings(folder)
    (results / THEORY).parent.mkdir()
    for path in (THEORY, ARCHITECTURE):
        other.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(check_out().root / path, other / path)
    targets = [
        Target("settings", 7, _list_settings(settings)),
        Target("records", 5, _list_records(results, partial(read_record, results))),
        Target("shown", 1, _list_records(results, lambda *_: print_tables(results, []))),
        Target("documents", 4, _list_documents(other)),
        Target("tables", 3, _list_tables(other)),
        Target("arrays", 3, _list_arrays(other)),
        Target("weights", 2, _list_weights(other)),
        Target("states", 2, _list_states(other)),
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        for target in targets:
            for file in target.files:
                file.read()  # so that no import counts as a hang
    return targets
