"""python -m pipeline plan: what `dvc repro` would compute, and what that would cost on this device."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.plan.dvc.foresee import find_statuses
from pipeline.plan.rows import Row, list_outputs, make_rows
from pipeline.plan.slots import count_slots, list_gpus
from pipeline.run.closures import closure_path, describe_closures
from pipeline.run.foreign import digest_factories
from pipeline.schema.project import Project, load_project
from pipeline.schema.resolved import describe_all

if TYPE_CHECKING:
    from pipeline.metrics.bench import Cost

_SECONDS = 8.0  # that the timed steps of a plan may take, about
_FORK = 0.3  # seconds until a forked stage begins its work, measured


@dataclass(frozen=True)
class Priced:
    """A row with something to run, and what each seed of it costs; or why its first step fails."""

    row: Row
    cost: "Cost | None"
    failure: str | None = None

    @property
    def flops(self) -> float:
        """Of one seed."""
        return self.cost.flops if self.cost else 0.0

    @property
    def seconds(self) -> float:
        """Of one seed, without its start."""
        return self.cost.seconds if self.cost else 0.0

    @property
    def count(self) -> int:
        """Seeds to run."""
        return len(self.row.seeds("made"))


@dataclass(frozen=True)
class Forecast:
    """The whole plan."""

    rows: list[Row]
    priced: list[Priced]
    """Of the rows with something to run, those whose study says what the step costs."""
    device: str | None
    """None: nothing was measured."""
    threads: int
    notes: list[str]
    start_up: float = 0.0
    """Seconds that a stage which is a process of its own takes to start."""
    slots: int = 1
    """Stages that `pipeline run` has at work at once."""

    @property
    def flops(self) -> float:
        """Of all that is priced and is to run."""
        return sum(one.flops * one.count for one in self.priced)

    @property
    def seconds(self) -> float:
        """Of all that is priced and is to run, without the starts."""
        return sum(one.seconds * one.count for one in self.priced)

    @property
    def seconds_run(self) -> float:
        """The same, with its starts, by `pipeline run`: on a CPU its stages are forked."""
        starts = sum(one.count for one in self.priced) * (_FORK if self.device == "cpu" else self.start_up)
        return (self.seconds + starts) / self.slots

    @property
    def seconds_repro(self) -> float:
        """The same by `dvc repro`: one process after another."""
        return self.seconds + sum(one.count for one in self.priced) * self.start_up


def count_images(root: Path, project: Project, study: str, case: str) -> tuple[int, int]:
    """Images of the training and the test split: of the data if fetched, else as specs/data.yaml says."""
    from safetensors import SafetensorError, safe_open

    def count(split: str, known: int) -> int:
        path = root / "data" / study / case / f"{split}.safetensors"
        if not path.is_file():
            return known
        try:
            with safe_open(path, framework="numpy") as file:
                return int(file.get_slice("images").get_shape()[0])
        except SafetensorError as error:
            raise ValueError(f"{path}: not a whole safetensors file: {error}") from None

    dataset = project.case(study, case).dataset
    return (0, 0) if dataset is None else (count("train", dataset.train_images), count("test", dataset.test_images))


def time_check() -> float:
    """Seconds of a process that reads the settings and imports no torch."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pipeline", "check", "--quiet"], check=True)
    return time.perf_counter() - start


def find_costs(project: Project, row: Row) -> Any | None:
    """The module that prices a row; None: it is not priced. Loaded by name: it is the study's own, and needs torch."""
    name = project.study(row.run.study).costs
    costs: Any = import_module(name) if name else None
    return costs if costs and row.step in costs.STEPS else None


def price_rows(
    root: Path, project: Project, rows: Sequence[Row], on_row: Callable[[Row], object] = lambda row: None
) -> tuple[list[Priced], str | None, float]:
    """Measure every row that can be priced once, whatever its number of seeds; the device; seconds to start a stage."""
    start = time.perf_counter()
    found = [(row, costs) for row in rows if (costs := find_costs(project, row)) is not None]
    if not found:
        return [], None, 0.0
    from pipeline.metrics.bench import Bench

    imports = time.perf_counter() - start
    compute = project.panel.compute
    device = choose_device(compute)
    bench = Bench(compute.model_copy(update={"compile": False}), device, _SECONDS / len(found))
    start_up = imports + 2 * time_check()  # a stage reads its settings once more at its end
    priced = []
    for row, costs in found:
        on_row(row)
        images = count_images(root, project, row.run.study, row.run.case)
        try:
            priced.append(Priced(row, costs.price(project, row.run, row.step, bench, images)))
        except ArithmeticError as error:  # such a run is recorded as failed, and costs nothing more
            priced.append(Priced(row, None, str(error)))
    return priced, device, start_up


def _note(project: Project, priced: Sequence[Priced]) -> list[str]:
    """What the numbers leave out or take for granted, one line each."""
    notes = ["FLOP: convolutions, matrix products and attention; a multiplication and an addition are two."]
    notes.append("Times are of the work alone. The last two count the starts too, but not what is not priced.")
    modules = dict.fromkeys(find_costs(project, one.row) for one in priced)
    notes += [note for costs in modules if (note := getattr(costs, "NOTE", None))]
    if project.panel.compute.compile:
        notes.append("Measured without torch.compile, which params.yaml asks for.")
    if any(one.cost.scaled for one in priced if one.cost):
        notes.append("~: a smaller batch was measured and scaled, as a step takes long here.")
    notes += [
        f"{one.row.group} {one.row.run.arm}: the first step fails: {one.failure}" for one in priced if one.failure
    ]
    return notes


def foresee_check(root: Path, project: Project) -> dict[str, str]:
    """Contents, by path, of what the stage `check` will write: closures/ and resolved/."""
    digest = partial(digest_factories, root)
    closures = {closure_path(stage).as_posix(): content for stage, content in describe_closures(root).items()}
    return closures | {path.as_posix(): content for path, content in describe_all(project, digest)}


def make_forecast(root: Path, on_row: Callable[[Row], object] = lambda row: None) -> Forecast:
    """Find out what is to be run, and measure it; imports torch only if something can be priced.

    Raises:
        SpecError: a mistake in params.yaml or specs/, or DVC cannot read the project.
    """
    project = load_project(root)
    threads = project.panel.compute.threads
    tune_process(threads, project.panel.compute.portable)
    paths = [path for _, _, path in list_outputs(project)]
    rows = make_rows(project, find_statuses(root, paths, foresee_check(root, project)))
    priced, device, start_up = price_rows(root, project, [row for row in rows if row.seeds("made")], on_row)
    slots = len(list_gpus(project.panel.compute)) or count_slots(project.panel.compute)
    return Forecast(rows, priced, device, threads, _note(project, priced) if priced else [], start_up, slots)
