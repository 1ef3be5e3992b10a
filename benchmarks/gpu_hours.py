"""GPU-hours of the panel for CIFAR-10 in docs/cifar.md, from steps that benchmarks.gpu has timed."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.schema.base import SpecError, read_json
from pipeline.schema.data import load_data_spec
from pipeline.schema.study import find_study, load_study_spec, resolve_later, resolve_run
from pipeline.studies.ddpm.sampler import count_snapshots

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/cifar.md"
_CASE = "cifar10"


@dataclass(frozen=True)
class Job:
    """Runs whose steps cost alike."""

    work: str
    """As in benchmarks.gpu."""
    runs: int
    steps: int
    """Of one run."""
    tests: int = 0
    """Batches of the test split that one run classifies."""


def read_panel(page: str) -> dict[str, Any]:
    """The block of params.yaml that docs/cifar.md shows for CIFAR-10.

    Raises:
        SpecError: there is none.
    """
    for block in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        content = YAML(typ="safe").load(block)
        if isinstance(content, dict) and _CASE in content.get("node", {}) and _CASE in content.get("ddpm", {}):
            return content
    raise SpecError(f"{PAGE}: no block of params.yaml with node.{_CASE} and ddpm.{_CASE}")


def list_jobs(root: Path, panel: dict[str, Any]) -> tuple[list[Job], int]:
    """The panel's jobs with the budgets of specs/, and the number of its runs without an ODE, which are in none."""
    dataset = load_data_spec(root).datasets[_CASE]
    counts: Counter[tuple[str, int]] = Counter()
    for name in ("node", "ddpm"):
        study, spec = find_study(name), load_study_spec(root, name)
        for part in (panel[name][_CASE], panel[name][_CASE]["more"]):
            for arm in part["arms"]:
                run: Any = resolve_run(study, spec, _CASE, arm, 0)[0]
                width = 0 if name == "node" and run.network.block == "none" else run.network.channels
                counts[name, width] += len(part["seeds"])
        if name == "node":
            epochs, batch = run.training.epochs, run.training.batch_size
            steps, tests = (
                epochs * math.ceil(images / batch) for images in (dataset.train_images, dataset.test_images)
            )
        else:
            sampling: Any = resolve_later(study, spec, _CASE)["sampling"]
            sets = sampling.sets + count_snapshots(run, sampling)
            calls = sets * sampling.steps * math.ceil(sampling.images / sampling.batch_size)
    widths = sorted((width for name, width in counts if name == "node" and width), reverse=True)
    jobs = [Job(f"node-{width}", counts["node", width], steps, tests) for width in widths]
    models = sum(count for (name, _), count in counts.items() if name == "ddpm")
    jobs += [Job("ddpm-training", models, run.training.steps), Job("ddpm-sampling", models, calls)]
    return jobs, counts["node", 0]


def find_hours(jobs: list[Job], rows: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Hours of each job on one GPU like the measured one, by setting of our side; None: a step was not measured.

    Where the pass over the test split was not timed, as of what is compiled, it takes what the baseline's takes.
    """
    ours = {(row["name"], row["work"]): row for row in rows if row["status"] == "measured" and not row["plain"]}
    hours: dict[str, list[float | None]] = {}
    for name in dict.fromkeys(name for name, _ in ours if "another process" not in name):
        hours[name] = []
        for job in jobs:
            row = ours.get((name, job.work))
            test = (row or {}).get("predict_ms", ours.get(("baseline", job.work), {}).get("predict_ms"))
            if row is None or (job.tests and test is None):
                hours[name].append(None)
            else:
                each = job.steps * row["ms"] + (job.tests * test if job.tests else 0)
                hours[name].append(job.runs * each / 3.6e6)
    return hours


def write_hours(jobs: list[Job], without: int, content: dict[str, Any]) -> str:
    """The hours as Markdown."""

    def show(hours: float | None) -> str:
        return "-" if hours is None else f"{hours:,.1f}"

    heads = [f"{job.work}: {job.runs} x {job.steps:,} steps" for job in jobs]
    lines = [f"GPU-hours on one {content['machine']['device']}, of the panel for CIFAR-10 in {PAGE}", ""]
    lines += [f"| setting | {' | '.join(heads)} | all |", "| --- |" + " --: |" * (len(jobs) + 1)]
    for name, hours in find_hours(jobs, content["cells"]).items():
        total = None if None in hours else sum(hour for hour in hours if hour is not None)
        lines.append(f"| {name} | {' | '.join(map(show, [*hours, total]))} |")
    lines += ["", "NODE: with the baseline's function evaluations at initialisation; arms and training change them."]
    lines += [f"Not counted: {without} runs without an ODE, evaluations, data."] if without else []
    return "\n".join(lines) + "\n"


def print_hours(path: Path) -> None:
    """Print the hours.

    Raises:
        SpecError: the file is none of benchmarks.gpu, or of tiny shapes.
    """
    content = read_json(path, path.name)
    if not isinstance(content, dict) or not {"machine", "cells", "tiny"} <= content.keys():
        raise SpecError(f"{path.name}: not a file of benchmarks.gpu")
    if content["tiny"]:
        raise SpecError(f"{path.name}: its shapes are tiny; their times say nothing of the panel's")
    panel = read_panel((ROOT / PAGE).read_text(encoding="utf-8"))
    print(write_hours(*list_jobs(ROOT, panel), content), end="")
