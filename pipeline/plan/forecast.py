"""python -m pipeline plan: what `dvc repro` would train, and what that would cost on this device."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.plan.fate import find_fates
from pipeline.plan.rows import Row, list_outputs, locate_record, make_rows
from pipeline.schema.project import Project, load_project

if TYPE_CHECKING:
    from pipeline.plan.cost import Bench, Cost

_SECONDS = 8.0  # that the timed steps of a plan may take, about


@dataclass(frozen=True)
class Priced:
    """A row with something to run, and what each seed of it costs; or why its first step fails."""

    row: Row
    cost: "Cost | None"
    start_up: float
    """Seconds."""
    failure: str | None = None

    @property
    def flops(self) -> float:
        """Of one seed."""
        return self.cost.flops if self.cost else 0.0

    @property
    def seconds(self) -> float:
        """Of one seed, with its start."""
        return self.start_up + (self.cost.seconds if self.cost else 0.0)

    @property
    def count(self) -> int:
        """Seeds to run."""
        return len(self.row.seeds("made"))


@dataclass(frozen=True)
class Forecast:
    """The whole plan."""

    rows: list[Row]
    priced: list[Priced]
    evaluations: int
    """DDPM evaluations to run, which are not priced."""
    device: str | None
    """None: nothing is to be run."""
    threads: int
    notes: list[str]


def count_images(root: Path, project: Project, study: str, dataset: str) -> tuple[int, int]:
    """Images of the training and the test split: of the data if fetched, else as specs/data.yaml says."""
    from safetensors import SafetensorError, safe_open

    def count(split: str, known: int) -> int:
        path = root / "data" / study / dataset / f"{split}.safetensors"
        if not path.is_file():
            return known
        try:
            with safe_open(path, framework="numpy") as file:
                return int(file.get_slice("images").get_shape()[0])
        except SafetensorError as error:
            raise ValueError(f"{path}: not a whole safetensors file: {error}") from None

    data = project.data.datasets[dataset]
    return count("train", data.train_images), count("test", data.test_images)


def time_check() -> float:
    """Seconds of the check that every stage's command begins with."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pipeline", "check", "--quiet"], check=True)
    return time.perf_counter() - start


def _price(root: Path, project: Project, row: Row, bench: "Bench") -> "Cost":
    from pipeline.plan.cost import cost_ddpm, cost_node, cost_sampling

    run, data = row.run, project.data.datasets[row.run.dataset]
    if run.study == "node":
        return cost_node(run, data, *count_images(root, project, "node", run.dataset), bench)
    if row.stage == "train_ddpm":
        return cost_ddpm(run, data, bench)
    return cost_sampling(run, project.ddpm.datasets[run.dataset].sampling, data, bench)


def price_rows(
    root: Path, project: Project, rows: Sequence[Row], on_row: Callable[[Row], object] = lambda row: None
) -> tuple[list[Priced], str]:
    """Measure every row once, whatever its number of seeds, and name the device."""
    start = time.perf_counter()
    from pipeline.plan.cost import Bench

    imports = time.perf_counter() - start
    compute = project.panel.compute
    device = choose_device(compute)
    bench = Bench(compute, device, _SECONDS / len(rows))
    start_up = imports + 2 * time_check()  # the stage reads the specs once more
    priced = []
    for row in rows:
        on_row(row)
        try:
            priced.append(Priced(row, _price(root, project, row, bench), start_up))
        except ArithmeticError as error:  # such a run is recorded as failed, and costs nothing more
            priced.append(Priced(row, None, start_up, str(error)))
    return priced, device


def _note(project: Project, priced: Sequence[Priced], evaluations: int) -> list[str]:
    """What the numbers leave out or take for granted, one line each."""
    stages = {one.row.stage for one in priced}
    notes = ["FLOP: convolutions, matrix products and attention; a multiplication and an addition are two."]
    notes.append(f"Times include {priced[0].start_up:.1f} s to start each; DVC's own seconds are not counted.")
    if "train_node" in stages:
        notes.append("NODE: as many function evaluations (NFE) as at initialisation; training changes them.")
    if evaluations:
        notes.append(f"Not counted: evaluations of diffusion models ({evaluations}).")
    if project.panel.compute.compile:
        notes.append("Measured without torch.compile, which params.yaml asks for.")
    if any(one.cost.scaled for one in priced if one.cost):
        notes.append("~: a smaller batch was measured and scaled, as a step takes long here.")
    for one in priced:
        if one.failure:
            run = one.row.run
            notes.append(f"{one.row.stage} {run.dataset} {run.arm}: the first step fails: {one.failure}")
    return notes


def make_forecast(root: Path, on_row: Callable[[Row], object] = lambda row: None) -> Forecast:
    """Find out what is to be run, and measure it; imports torch only if there is something.

    Raises:
        SpecError: a mistake in params.yaml or specs/, or DVC cannot read the project.
    """
    project = load_project(root)
    threads = project.panel.compute.threads
    tune_process(threads, project.panel.compute.portable)
    records = [locate_record(run) for run in project.runs() if run.study == "ddpm"]
    fates = find_fates(root, [*(path for _, _, path in list_outputs(project)), *records])
    rows, evaluations = make_rows(project, fates), sum(fates[path] == "made" for path in records)
    todo = [row for row in rows if row.seeds("made")]
    if not todo:
        return Forecast(rows, [], evaluations, None, threads, [])
    priced, device = price_rows(root, project, todo, on_row)
    return Forecast(rows, priced, evaluations, device, threads, _note(project, priced, evaluations))
