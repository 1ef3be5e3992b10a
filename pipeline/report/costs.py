"""What the runs cost and where they were made, as the ledger has it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from pipeline.report.flops import Flops
from pipeline.report.markdown import align_table, escape_cell
from pipeline.report.panel import Panel
from pipeline.schema.ledger import Entry, ledger_path, read_ledger
from pipeline.schema.study import Run, find_study

Books = Mapping[tuple[str, str, str, int], Sequence[Entry]]
"""Entries by study, case, arm and seed."""
_UNKNOWN = "—"
_PLACE = ("device", "cpu", "workers", "threads", "portable", "precision", "torch", "git")


def read_books(root: Path, runs: Iterable[Run]) -> Books:
    """The ledger's entries of these runs."""
    books: dict[tuple[str, str, str, int], list[Entry]] = {(run.study, run.case, run.arm, run.seed): [] for run in runs}
    for study, case in dict.fromkeys((study, case) for study, case, _, _ in books):
        for entry in read_ledger(ledger_path(root, study, case)):
            if (key := (study, case, entry.arm, entry.seed)) in books:
                books[key].append(entry)
    return books


def show_minutes(seconds: float) -> str:
    """Minutes, to two digits at least."""
    minutes = seconds / 60
    return f"{minutes:.0f}" if minutes >= 100 else f"{minutes:.2g}"


def _average(entries: Sequence[Entry]) -> str:
    known = [entry.seconds for entry in entries if entry.seconds is not None]
    return show_minutes(fmean(known)) if known else _UNKNOWN


def _show_flops(values: Sequence[float]) -> str:
    """TFLOP, to three digits."""
    return f"{fmean(values) / 1e12:.3g}" if values else _UNKNOWN


def render_costs(panel: Panel, books: Books, flops: Flops) -> str:
    """TFLOP and minutes of each arm, means over seeds, a column a step, as a Markdown table.

    TFLOP: of the steps of which those of any run are known.
    """
    steps, rows = find_study(panel.study).steps, []
    known = {step for study, case, _, _, step in flops if (study, case) == (panel.study, panel.case)}
    counted = [step for step in steps if step in known]
    for arm in panel.arms:
        keys = [(panel.study, panel.case, arm, seed) for seed in panel.seeds[arm]]
        work = [_show_flops([flops[*key, step] for key in keys if (*key, step) in flops]) for step in counted]
        entries = [entry for key in keys for entry in books.get(key, ())]
        found = {step: [entry for entry in entries if entry.step == step] for step in steps}
        devices = sorted({entry.device for entry in entries if entry.device is not None})
        minutes = [_average(found[step]) for step in steps]
        rows.append([f"`{arm}`", ", ".join(map(escape_cell, devices)) or _UNKNOWN, *work, *minutes])
    units = [*(f"{step}, TFLOP" for step in counted), *(f"{step}, minutes" for step in steps)]
    return align_table(["Arm", "Device", *units], rows)


def _show_fact(entry: Entry, key: str) -> str:
    """What is known of a place; a CPU has no GPUs at work."""
    value = getattr(entry, key)
    on_cpu = entry.device is not None and entry.device.startswith("cpu")
    return _UNKNOWN if value is None or (key == "workers" and on_cpu) else str(value)


def render_places(books: Books) -> str:
    """How many outputs were made with what."""
    groups: dict[tuple[str, ...], int] = {}
    for entry in (entry for entries in books.values() for entry in entries):
        place = tuple(_show_fact(entry, key) for key in _PLACE)
        groups[place] = groups.get(place, 0) + 1
    header = ["Device", "CPU", "GPUs at work", "CPU threads", "Portable", "Precision", "torch", "Code", "Outputs"]
    rows = [[*map(escape_cell, place), str(count)] for place, count in sorted(groups.items())]
    return align_table(header, rows, left=8)


def _name_maker(entry: Entry, key: str) -> str | None:
    """What of a place decides the bytes: the GPU, or the very CPU unless the run was portable."""
    value = getattr(entry, key)
    if value is None:
        return None
    if key != "device" or not value.startswith("cpu"):
        return str(value)
    if entry.portable:
        return "cpu, portable"
    return f"{value} ({entry.cpu})" if entry.cpu else str(value)


def find_mixtures(books: Books) -> list[str]:
    """A line for each study and case whose numbers were made in places that may give different bytes."""
    lines = []
    for study, case in dict.fromkeys((study, case) for study, case, _, _ in books):
        entries = [entry for key, found in books.items() if key[:2] == (study, case) for entry in found]
        for key in ("device", "workers", "threads", "precision", "torch"):
            values = sorted({str(value) for entry in entries if (value := _name_maker(entry, key)) is not None})
            if len(values) > 1:
                told = "; ".join(map(escape_cell, values))
                lines.append(f"**Mixed:** runs of {study}, {case}, were not made with the same {key}: {told}.")
    return lines
