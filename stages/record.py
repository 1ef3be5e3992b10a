"""record STUDY DATASET: what git keeps of the runs that params.yaml lists. No torch.

evaluations/ -> records/; and metrics/ (a few numbers an arm), curves/ (over training) and ledger/ (what made it).
"""

import argparse
from collections.abc import Collection, Iterator
from pathlib import Path

from pipeline.metrics.arm_metrics import summarise_arm, write_metrics
from pipeline.run.inputs import read_inputs
from pipeline.run.process import hash_output, run_stage
from pipeline.schema.curve import CURVES, Curve, Point, curve_path, list_points, read_history, write_curve
from pipeline.schema.data import load_data_spec
from pipeline.schema.files import write_file
from pipeline.schema.ledger import STEPS, Entry, Step, enter, ledger_path, read_ledger, write_ledger
from pipeline.schema.panel import Grid, StudyName, load_panel
from pipeline.schema.record import DdpmRecord, Failure, Record, evaluation_path, read_record, record_path

ROOT = Path()
_FOLDERS = {"train": "runs", "sample": "samples"}
_PROVENANCE = {"train": "", "sample": "sample", "evaluate": "evaluate"}


def list_runs(grid: Grid) -> list[tuple[str, int]]:
    """Arms and seeds, in params.yaml's order."""
    return [(arm, seed) for arm in grid.arms for seed in grid.seeds]


def copy_records(study: StudyName, dataset: str, grid: Grid) -> dict[tuple[str, int], Record | Failure]:
    """Put every evaluation into records/, and read it."""
    found = {}
    for arm, seed in list_runs(grid):
        target = record_path(ROOT, study, dataset, arm, seed)
        write_file(target, evaluation_path(ROOT, study, dataset, arm, seed).read_bytes())
        if (record := read_record(ROOT, study, dataset, arm, seed)) is not None:
            found[arm, seed] = record
    return found


def trace(study: str, dataset: str, curve: Curve, arm: str, seed: int, record: Record | Failure) -> list[Point]:
    """The points of a run's curve; a failed one's up to its end."""
    if curve.history is not None:
        return list_points(
            curve, arm, seed, read_history(ROOT / "runs" / study / dataset / arm / str(seed) / "history.tsv")
        )
    if isinstance(record, DdpmRecord):
        return [Point(arm, seed, snapshot.step, snapshot.scores.fid) for snapshot in record.snapshots]
    return []


def keep_books(study: StudyName, dataset: str, grid: Grid) -> Iterator[Entry]:
    """The ledger's entries, each kept while its output stays the same."""
    known = read_ledger(ledger_path(ROOT, study, dataset))
    for arm, seed in list_runs(grid):
        run = f"{study}/{dataset}/{arm}/{seed}"
        step: Step
        for step in STEPS[study]:
            folder = _FOLDERS.get(step)
            output = ROOT / folder / run if folder else evaluation_path(ROOT, study, dataset, arm, seed)
            provenance = ROOT / "provenance" / _PROVENANCE[step] / f"{run}.json"
            yield enter(arm, seed, step, hash_output(output), provenance, known)


def remove_others(folder: Path, kept: Collection[Path]) -> None:
    """Remove what params.yaml does not list any more: DVC leaves the folder as it is (`persist`)."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=list(CURVES))
    parser.add_argument("dataset")
    args = parser.parse_args()
    study, dataset = args.study, args.dataset
    grid = read_inputs(lambda: load_panel(ROOT, list(load_data_spec(ROOT).datasets)).datasets[dataset].grid(study))
    records = copy_records(study, dataset, grid)
    remove_others(
        ROOT / "records" / study / dataset,
        {record_path(ROOT, study, dataset, arm, seed) for arm, seed in list_runs(grid)},
    )
    metrics = {arm: ROOT / "metrics" / study / dataset / f"{arm}.json" for arm in grid.arms}
    for arm, path in metrics.items():
        write_metrics(path, summarise_arm(study, [records[arm, seed] for seed in grid.seeds]))
    remove_others(ROOT / "metrics" / study / dataset, metrics.values())
    for curve in CURVES[study]:
        points = [
            point
            for (arm, seed), record in records.items()
            for point in trace(study, dataset, curve, arm, seed, record)
        ]
        write_curve(curve_path(ROOT, study, dataset, curve), curve, points)
    write_ledger(ledger_path(ROOT, study, dataset), keep_books(study, dataset, grid))


if __name__ == "__main__":
    run_stage(main)
