"""The benchmark for a GPU, tried on the CPU: what it does with cells that fail or do not fit, its checks, its hours."""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from workspace import ROOT, Workspace

from benchmarks import gpu, wheels
from benchmarks.gpu_cells import Cell, measure_cell
from benchmarks.gpu_hours import PAGE, Job, find_hours, list_jobs, print_hours, read_panel, write_hours
from pipeline.schema.base import SpecError

MEASURED = {
    "ms": 10.0,
    "ms_quartiles": [9.0, 11.0],
    "tflops": 20.0,
    "check": [2.0, 1.0],
    "same_bytes": True,
    "batch": 4,
}
MEASURED |= {"digest": "a", "peak_gb": None, "first_check_s": 1.0}
PEAKS = {"float32": 40.0, "tf32": 100.0, "bfloat16": 200.0}


def fake(cell: Cell) -> dict[str, Any]:
    """A measurement, or what may go wrong in one."""
    if cell.name == "bfloat16":
        raise RuntimeError("CUDA out of memory\nand much more")
    if cell.name == "tf32":
        os._exit(3)
    if cell.name in ("plain, tf32", "compile"):
        time.sleep(60)
    faster = {"ms": 5.0, "check": [2.0, 1.01]} if cell.name == "plain" else {}
    return {**MEASURED, **faster}


def measure(names: list[str], deadline: float = 60.0) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """The rows of cells of one work, and what was written after each."""
    cells = [cell for cell in gpu.list_cells(["node-64"]) if cell.name in names]
    written: list[list[dict[str, Any]]] = []
    rows = gpu.measure_all(cells, fake, time.monotonic() + deadline, lambda rows: written.append(deepcopy(rows)), PEAKS)
    assert [row["name"] for row in rows] == names
    return rows, written


def test_all_is_written_after_each_cell_and_a_failing_one_is_a_row():
    rows, written = measure(["baseline", "plain", "bfloat16", "tf32", "not deterministic"])
    done = ["measured", "measured", "failed", "failed", "measured"]
    assert [row["status"] for row in rows] == done
    for count in range(1, len(done) + 1):
        assert [row["status"] for row in written[count - 1]] == done[:count] + ["not measured"] * (len(done) - count)
    assert rows[2]["reason"] == "RuntimeError: CUDA out of memory"
    assert rows[3]["reason"] == "the process ended with status 3"
    table = gpu.write_table({"machine": {"device": "a card", "torch": "2"}, "tiny": False, "cells": rows})
    assert "| bfloat16 | failed: RuntimeError: CUDA out of memory |" in table
    assert "NODE, C = 64, training step, batch 4" in table


def test_cells_are_compared_with_the_baseline_and_the_peer():
    base, plain = measure(["baseline", "plain"])[0]
    assert (base["loss_off_by"], base["agrees"], base["over_plain"], base["of_peak"]) == (0, True, 0.5, 0.5)
    assert plain["loss_off_by"] == pytest.approx(0.01)
    assert (plain["agrees"], plain["over_baseline"], plain["over_plain"]) == (True, 2, None)
    plain["check"] = [float("nan"), 1.0]
    gpu.complete(plain, [base, plain], None)
    assert not plain["agrees"]
    assert plain["of_peak"] is None


def test_another_process_must_come_to_the_same_bytes():
    rows = [{**gpu.describe_cell(Cell("node-64", name)), **MEASURED, "status": "measured"} for name in ("baseline", "")]
    rows[1] |= {"name": "baseline, another process", "digest": "b"}
    gpu.complete(rows[1], rows, None)
    assert rows[1]["same_bytes"] is False


@pytest.mark.slow
def test_what_takes_too_long_or_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "LIMIT", 1.0)
    rows, _ = measure(["baseline", "plain, tf32"])
    assert (rows[1]["status"], rows[1]["reason"]) == ("failed", "took longer than 1 s")
    names, seconds = ["baseline", "compile"], gpu._RESERVE + gpu._LEAST + 2
    begun = time.monotonic()
    rows, _ = measure(names, seconds)
    assert time.monotonic() - begun < seconds
    assert (rows[1]["status"], rows[1]["reason"]) == ("not measured", "did not fit into the time")
    rows, _ = measure(names, gpu._RESERVE)
    table = gpu.write_table({"machine": {"device": "a card", "torch": "2"}, "tiny": False, "cells": rows})
    told = [f"- node-64, {name}: the benchmark ended before" for name in names]
    assert table.splitlines()[-2:] == told


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("pipeline.compute.threads.tune_process", lambda *_, **__: None)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "argv", ["gpu", "--json", str(tmp_path / "out.json")])
    with pytest.raises(SystemExit, match=r"^error: torch sees no GPU here; `--device cpu --tiny` tries the command$"):
        gpu.main()
    assert not list(tmp_path.iterdir())


def test_at_most_six_cells_are_compiled_and_names_are_unique():
    cells = gpu.list_cells()
    assert sum(cell.compiled for cell in cells) <= 6
    assert len({(cell.work, cell.name) for cell in cells}) == len(cells)
    assert not any(cell.compiled for cell in gpu.list_cells(compiled=False))


@pytest.mark.parametrize(
    ("device", "bfloat16"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("Another Card", None),
    ],
)
def test_peaks_are_those_of_the_card(device: str, bfloat16: float | None):
    peaks = gpu.find_peaks(device)
    assert (peaks and peaks["bfloat16"]) == bfloat16


def test_hours_are_runs_times_steps_times_seconds():
    jobs = [Job("node-64", runs=2, steps=1000, tests=100), Job("ddpm-training", runs=3, steps=500)]
    base = {"status": "measured", "plain": False, "name": "baseline"}
    rows = [
        {**base, "work": "node-64", "ms": 360.0, "predict_ms": 36.0},
        {**base, "work": "ddpm-training", "ms": 720.0},
        {**base, "work": "node-64", "ms": 180.0, "name": "compile"},
        {**base, "work": "ddpm-training", "ms": 1.0, "name": "compile", "status": "failed"},
        {**base, "work": "node-64", "ms": 1.0, "name": "plain", "plain": True},
    ]
    assert find_hours(jobs, rows) == {
        "baseline": [pytest.approx(2 * (0.1 + 0.001)), pytest.approx(3 * 0.1)],
        "compile": [pytest.approx(2 * (0.05 + 0.001)), None],
    }
    text = write_hours(jobs, 5, {"machine": {"device": "a card"}, "cells": rows})
    assert "| baseline | 0.2 | 0.3 | 0.5 |" in text
    assert "| compile | 0.1 | - | - |" in text
    assert "5 runs without an ODE" in text


def test_the_jobs_are_those_of_the_panel_and_the_specs():
    arms = {"seeds": [0, 1, 2], "arms": ["baseline", "groups=1", "channels=64", "block=none"]}
    more = {"seeds": [7], "arms": ["groups=2,channels=64"]}
    models = {"seeds": [0], "arms": ["baseline", "position=mlp"], "more": {"seeds": [], "arms": []}}
    panel = {"node": {"cifar10": {**arms, "more": more}}, "ddpm": {"cifar10": models}}
    assert list_jobs(ROOT, panel) == (
        [
            Job("node-256", 6, 250 * 391, 250 * 79),
            Job("node-64", 4, 250 * 391, 250 * 79),
            Job("ddpm-training", 2, 1_300_000),
            Job("ddpm-sampling", 2, (3 + 17) * 1000 * 49),
        ],
        3,
    )


def test_the_panel_is_that_of_the_documentation():
    jobs, without = list_jobs(ROOT, read_panel((ROOT / PAGE).read_text(encoding="utf-8")))
    assert [(job.work, job.runs) for job in jobs[:2]] == [("node-256", 125), ("node-64", 35)]
    assert (jobs[2].runs, without) == (4, 5)
    with pytest.raises(SpecError, match=r"docs/cifar\.md: no block"):
        read_panel("```yaml\nnode: {digits: 1}\n```\n")


@pytest.mark.parametrize("content", [[], {"machine": {}}, {"machine": {}, "cells": [], "tiny": True}])
def test_a_file_that_tells_no_hours_is_refused(content: object, tmp_path: Path):
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(SpecError, match=r"x\.json: "):
        print_hours(tmp_path / "x.json")


def test_wheels_are_asked_for_with_the_versions_and_hashes_of_the_lock():
    lock = "numpy==2.0 \\\n    --hash=sha256:aa\n" + "".join(
        f"{name}==1.0 ; python_version < '3.12' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        f"{name}==2.0 ; python_version >= '3.12' \\\n    --hash=sha256:dd\n"
        for name in wheels.PACKAGES
    )
    told = wheels.select(lock, "3.11", ["scipy"])
    assert "tqdm==1.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n" in told
    assert "tqdm==2.0 \\\n    --hash=sha256:dd\n" in wheels.select(lock, "3.12")
    assert not {"numpy", "scipy"} & {line.split("==")[0] for line in told.splitlines()}
    with pytest.raises(ValueError, match=r"no annotated-types for Python 3\.11"):
        wheels.select("", "3.11")
    wheels.select((ROOT / "requirements.lock").read_text(encoding="utf-8"), "3.13")


def test_only_what_is_missing_comes_from_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wheels, "PACKAGES", {"absent-one": "absent_one", "absent-two": "absent_two", "numpy": "numpy"})
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("absent_one-1.0-py3-none-any", "absent_two-1.0-cp27-cp27m-any", "numpy-1.0-py3-none-any"):
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr(f"{name.partition('-')[0]}.py", "")
    found, place = wheels.provide(tmp_path)
    assert found == ["absent-one"]
    assert place is not None
    assert importlib.util.find_spec("absent_one") is not None
    assert [path.name for path in Path(place.name).iterdir()] == ["absent_one.py"]
    assert wheels.provide(tmp_path / "nowhere") == ([], None)


def needs(name: str, found: set[str]) -> set[str]:
    """The installed packages that a package needs, itself included; added to `found`."""
    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires(name) or []]
    except importlib.metadata.PackageNotFoundError:
        return found
    found.add(name)
    for one in wanted:
        if one.name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            needs(one.name, found)
    return found


@pytest.mark.ci
def test_torch_numpy_and_the_wheels_are_enough_for_both_sides(tmp_path: Path):
    for name in {*needs("torch", set()), "numpy", *wheels.PACKAGES}:
        for file in importlib.metadata.files(name) or []:
            if file.parts[0] != ".." and not (tmp_path / file.parts[0]).exists():
                (tmp_path / file.parts[0]).symlink_to(file.locate().parents[len(file.parts) - 1] / file.parts[0])
    shown = {path.name for path in tmp_path.iterdir()}
    assert {"torch", "diffusers"} <= shown
    assert not {"sklearn", "dvc", "matplotlib"} & shown
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]; "
    code += "import benchmarks.gpu_cells, benchmarks.gpu_hours, benchmarks.plain_node, benchmarks.plain_ddpm"
    subprocess.run([sys.executable, "-S", "-c", code], check=True, cwd=tmp_path)


@pytest.mark.ci
@pytest.mark.parametrize("work", ["ddpm-training", "ddpm-sampling"])
def test_both_sides_of_a_diffusion_model_agree(work: str):
    rows = []
    for plain in (False, True):
        cell = Cell(work, "plain" if plain else "baseline", plain=plain, deterministic=not plain)
        done, found = gpu.run_apart(lambda cell=cell: measure_cell(cell, "cpu", True), 120)
        assert done, found
        rows.append({**gpu.describe_cell(cell), **found, "status": "measured"})
    gpu.complete(rows[1], rows, None)
    assert rows[1]["loss_off_by"] < (2e-3 if work == "ddpm-training" else 1e-6)  # in a training the masks differ
    assert rows[0]["same_bytes"]
    assert 0.8 < rows[0]["flops"] / rows[1]["flops"] <= 1


@pytest.mark.ci
def test_the_benchmark_runs_to_its_end_without_a_gpu(tmp_path: Path):
    workspace, path = Workspace(ROOT), tmp_path / "out.json"
    options = ["--device", "cpu", "--tiny", "--work", "node-64", "--no-compile", "--json", str(path)]
    output = workspace.run("python", "-m", "benchmarks.gpu", *options).stdout
    rows = {row["name"]: row for row in json.loads(path.read_text())["cells"]}
    assert {row["status"] for row in rows.values()} == {"measured"}
    assert all(row["agrees"] for row in rows.values())
    assert all(row["same_bytes"] for row in rows.values() if not row["plain"])
    assert rows["baseline"]["digest"] == rows["baseline, another process"]["digest"] != rows["bfloat16"]["digest"]
    assert rows["plain"]["nfe"] == rows["baseline"]["nfe"]
    assert path.with_suffix(".md").read_text() in output
