"""Training and sampling steps of the paper's CIFAR-10 networks on a GPU, one setting changed at a time.

    python -m benchmarks.gpu [--minutes 9] [--json bench-gpu.json] [--peak FLOAT32 TF32 BFLOAT16]
                             [--work node-256 ...] [--no-compile]
    python -m benchmarks.gpu --device cpu --tiny     tries all of it without a GPU; the numbers mean nothing
    python -m benchmarks.gpu --hours FILE            GPU-hours of docs/cifar.md's panel, from what was measured

Needs torch and NumPy alone, and no network: what else is missing comes from wheels/ (`make bench-gpu-wheels`).

Baseline: float32, eager, deterministic kernels. Plain: torchdiffeq's odeint_adjoint over eager modules; diffusers'
UNet2DModel in its plain loops; both with torch's fastest kernels, deterministic or not. The U-Nets have attention after
every block on the way up on both sides, as UNet2DModel knows nothing else: 3.6 % more FLOPs than the study's baseline.

Each cell is measured in a process of its own, and written at once. A cell that fails or takes too long is a row with
the reason. Loss off by: of the first three steps, the most that a loss differs from the baseline's, relative to it; of
sampling, the error of the predicted noise at three levels. Same bytes: weights, moments and averages after these steps
from the same state once more, or the sampled images.
"""

import argparse
import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import wheels

if TYPE_CHECKING:
    from benchmarks.gpu_cells import Cell

WORKS = ("node-256", "node-64", "ddpm-training", "ddpm-sampling")
PEAKS = {  # dense TFLOP/s of float32, TF32 and bfloat16, by words of torch's name of the device
    "H100 PCIe": (51.2, 378.0, 756.0),
    "H100 NVL": (60.0, 417.5, 835.5),
    "H100": (66.9, 494.7, 989.4),
    "H200": (66.9, 494.7, 989.4),
    "A100": (19.5, 156.0, 312.0),
    "L40S": (91.6, 183.0, 362.0),
    "L4": (30.3, 60.0, 121.0),
    "A10": (31.2, 62.5, 125.0),
    "RTX 4090": (82.6, 82.6, 165.2),
    "RTX 3090": (35.6, 35.6, 71.0),
}
"""As NVIDIA's data sheets were remembered: look a card up before its % is quoted, or give --peak."""
TOLERANCE = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 5e-2}
"""Of `loss off by`."""
MASKS_TOLERANCE = 2e-2
"""At least that of what is compiled and of the peer, which draw other dropout masks."""
LIMIT = 45.0
"""Seconds of a cell; those that are compiled share the time that is left when it is their turn."""
_RESERVE = 5.0  # seconds for the end
_LEAST = 5.0  # with less time left, no cell is begun


def list_cells(works: Collection[str] = WORKS, compiled: bool = True) -> "list[Cell]":
    """The cells in the order of measurement: what matters most first, what must be compiled last."""
    from benchmarks.gpu_cells import Cell

    rounds: list[dict[str, Any]] = [
        {"name": "baseline"},
        {"name": "plain", "plain": True, "deterministic": False},
        {"name": "bfloat16", "precision": "bfloat16"},
        {"name": "tf32", "precision": "tf32"},
        {"name": "not deterministic", "deterministic": False},
        {"name": "baseline, another process"},
        {"name": "plain, tf32", "plain": True, "precision": "tf32", "deterministic": False},
        {"name": "plain, bfloat16", "plain": True, "precision": "bfloat16", "deterministic": False},
    ]
    cells = [Cell(work, **fields) for fields in rounds for work in WORKS if (work[:4], fields["name"]) != _UNUSUAL]
    if compiled:
        cells += [Cell(work, "compile", compiled=True) for work in WORKS]
        together = {"precision": "bfloat16", "compiled": True, "deterministic": False}
        cells += [Cell(work, "bfloat16, compile, not deterministic", **together) for work in WORKS[::2]]
    return [cell for cell in cells if cell.work in works]


_UNUSUAL = ("node", "plain, bfloat16")  # an adjoint solve of torchdiffeq leaves autocast


def find_peaks(device: str) -> dict[str, float] | None:
    """Dense peaks of a card in TFLOP/s, by precision; None: not known."""
    words = device.replace("-", " ").split()
    if {"D", "Laptop", "MIG"} & set(words):  # less than the card of that name
        return None
    for name, peaks in PEAKS.items():
        if set(name.split()) <= set(words):
            return dict(zip(TOLERANCE, peaks, strict=True))
    return None


def _serve(sender: Connection, call: Callable[[], Any]) -> None:
    """In the child: send what the call returns, or why it failed."""
    os.setsid()  # what it starts ends with it
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a benchmark that was killed leaves nothing
    try:
        sender.send((True, call()))
    except BaseException as error:
        text = str(error).strip() or "no message"
        sender.send((False, f"{type(error).__name__}: {text.splitlines()[0]}"[:300]))


def run_apart(call: Callable[[], Any], limit: float) -> tuple[bool, Any]:
    """Call in a process of its own: (True, what it returns) or (False, the reason).

    Forked: this process has imported torch, which takes seconds, and never touched the GPU.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(sender, call))
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            return False, f"took longer than {limit:.0f} s"
        return receiver.recv()
    except EOFError:
        process.join()
        return False, f"the process ended with status {process.exitcode}"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join()


def describe_cell(cell: "Cell") -> dict[str, Any]:
    """A row before it is measured."""
    return {**vars(cell), "status": "not measured", "reason": "the benchmark ended before"}


def complete(row: dict[str, Any], rows: list[dict[str, Any]], peaks: dict[str, float] | None) -> None:
    """Add to a measured row what follows from other rows of its work, which were measured before."""
    known = {other["name"]: other for other in rows if other["work"] == row["work"] and other["status"] == "measured"}
    row["of_peak"] = row["tflops"] / peaks[row["precision"]] if peaks else None
    if base := known.get("baseline"):
        pairs = zip(row["check"], base["check"], strict=True)
        row["loss_off_by"] = max(abs(one / other - 1) for one, other in pairs)
        others = MASKS_TOLERANCE if row["compiled"] or row["plain"] else 0.0
        row["tolerance"] = max(TOLERANCE[row["precision"]], others)
        row["agrees"] = row["loss_off_by"] <= row["tolerance"]  # not so for NaN
        row["over_baseline"] = base["ms"] / row["ms"]
        if row["name"] == "baseline, another process":
            row["same_bytes"] = row["same_bytes"] and row["digest"] == base["digest"]
    plain = {"float32": "plain"}.get(row["precision"], f"plain, {row['precision']}")
    row["over_plain"] = known[plain]["ms"] / row["ms"] if plain in known and not row["plain"] else None


def measure_all(
    cells: "list[Cell]",
    measure: "Callable[[Cell], dict[str, Any]]",
    deadline: float,
    write: Callable[[list[dict[str, Any]]], None],
    peaks: dict[str, float] | None,
) -> list[dict[str, Any]]:
    """Measure cells one after the other, and call `write` with all rows after each.

    Args:
        deadline: of `time.monotonic()`; what does not fit before it is not measured.
    """
    rows = [describe_cell(cell) for cell in cells]
    for index, (cell, row) in enumerate(zip(cells, rows, strict=True)):
        left = deadline - _RESERVE - time.monotonic()
        if left < _LEAST:
            break
        sharing = sum(other.compiled for other in cells[index:])
        limit = left / sharing if cell.compiled else min(LIMIT, left)
        row["reason"] = "the benchmark was killed meanwhile"
        start = time.monotonic()
        done, found = run_apart(lambda cell=cell: measure(cell), limit)
        row["wall_s"] = time.monotonic() - start
        if done:
            row.update(found, status="measured", reason=None)
        elif limit == left and row["wall_s"] >= limit:
            row["reason"] = "did not fit into the time"
        else:
            row.update(status="failed", reason=found)
        for other in rows:
            if other["status"] == "measured":
                complete(other, rows, peaks)
        write(rows)
        said = f"{row['ms']:.1f} ms" if done else f"{row['status']}: {row['reason']}"
        print(f"{cell.work}, {cell.name}: {said} ({row['wall_s']:.0f} s)", flush=True)
    write(rows)
    return rows


def _cells(row: dict[str, Any]) -> list[str]:
    """One line of the table."""
    if row["status"] != "measured":
        return [row["name"], f"{row['status']}: {row['reason']}".replace("|", "/"), *[""] * 9]

    def show(key: str, form: str) -> str:
        return form.format(row[key]) if row.get(key) is not None else "-"

    low, high = row["ms_quartiles"]
    off = show("loss_off_by", "{:.0e}")
    if "agrees" in row:
        off += f" ({'within' if row['agrees'] else 'NOT WITHIN'} {row['tolerance']:.0e})"
    return [
        row["name"],
        f"{row['ms']:.2f} ({low:.2f} to {high:.2f})",
        show("over_baseline", "{:.2f}"),
        show("over_plain", "{:.2f}"),
        show("tflops", "{:.3g}"),
        show("of_peak", "{:.1%}"),
        show("peak_gb", "{:.2f}"),
        off,
        {None: "-", True: "yes", False: "NO" if row["deterministic"] else "no"}[row["same_bytes"]],
        "{}, {}".format(*row["nfe"]) if "nfe" in row else "",
        show("first_check_s", "{:.1f}"),
    ]


_COLUMNS = (
    "setting", "ms a step (quartiles)", "x baseline", "x plain, same precision", "TFLOP/s", "of the peak", "peak GB",
    "loss off by", "same bytes", "NFE-F, NFE-B", "first steps, s",
)  # fmt: skip
_TITLES = {
    "node-256": "NODE, C = 256, training step",
    "node-64": "NODE, C = 64, training step",
    "ddpm-training": "DDPM, training step",
    "ddpm-sampling": "DDPM, sampling step of a batch",
}


def write_table(content: dict[str, Any]) -> str:
    """The rows as Markdown, a table for each kind of step."""
    machine, lines = content["machine"], []
    lines.append(f"# {machine['device']}, torch {machine['torch']}")
    if content["tiny"]:
        lines += ["", "**Tiny shapes: a trial of the command. The numbers mean nothing.**"]
    for work, title in _TITLES.items():
        if not (rows := [row for row in content["cells"] if row["work"] == work]):
            continue
        batch = next((f", batch {row['batch']}" for row in rows if "batch" in row), "")
        lines += ["", f"## {title}{batch}", "", f"| {' | '.join(_COLUMNS)} |", "| --- |" + " --: |" * 10]
        lines += [f"| {' | '.join(_cells(row))} |" for row in rows if row["status"] != "not measured"]
    if missing := [row for row in content["cells"] if row["status"] == "not measured"]:
        names = (f"- {row['work']}, {row['name']}: {row['reason']}" for row in missing)
        lines += ["", "## Not measured", "", *names]
    return "\n".join(lines) + "\n"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="shapes that take no time")
    parser.add_argument("--minutes", type=float, default=9.0, help="in which all must end")
    parser.add_argument("--work", nargs="+", choices=WORKS, default=WORKS, help="all if not given")
    parser.add_argument("--no-compile", action="store_true", help="without the compiled cells")
    parser.add_argument("--peak", type=float, nargs=3, metavar=("FLOAT32", "TF32", "BFLOAT16"), help="TFLOP/s")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--json", type=Path, default=Path("bench-gpu.json"), help="beside it: the table, .md")
    parser.add_argument("--hours", type=Path, metavar="FILE", help="a JSON of before; measures nothing")
    return parser.parse_args()


def _run(args: argparse.Namespace, begun: float) -> None:
    from pipeline.compute.threads import tune_process

    tune_process(args.threads, portable=False)
    # A look for a GPU that asks NVIDIA's management library: this process must leave the driver to its children.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    from benchmarks import gpu_cells
    from pipeline.schema.base import SpecError
    from pipeline.schema.files import write_file, write_json

    done, machine = run_apart(lambda: gpu_cells.describe_machine(args.device), LIMIT)
    if not done:
        raise SpecError(machine.removeprefix("ValueError: "))
    peaks = dict(zip(TOLERANCE, args.peak, strict=True)) if args.peak else find_peaks(machine["device"])
    content = {"machine": machine, "tiny": args.tiny, "minutes": args.minutes, "peaks": peaks, "cells": []}

    def write(rows: list[dict[str, Any]]) -> None:
        content["cells"] = rows
        write_json(args.json, content)

    def measure(cell: "Cell") -> dict[str, Any]:
        return gpu_cells.measure_cell(cell, args.device, args.tiny)

    cells = list_cells(args.work, not args.no_compile)
    rows = measure_all(cells, measure, begun + args.minutes * 60, write, peaks)
    table = write_table(content)
    write_file(args.json.with_suffix(".md"), table)
    print(table)
    if not any(row["status"] == "measured" for row in rows):
        sys.exit("error: no cell was measured")


def main() -> None:
    """Measure, or count hours; a mistake of the user's is one line."""
    begun, args = time.monotonic(), _parse()
    found, _place = wheels.provide()  # the folder lasts as long as this name
    if found:
        print(f"from wheels/: {', '.join(found)}", flush=True)
    from pipeline.schema.base import SpecError

    try:
        if args.hours:
            from benchmarks.gpu_hours import print_hours

            print_hours(args.hours)
        else:
            _run(args, begun)
    except (SpecError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
