"""record STUDY CASE: evaluations/ -> records/, metrics/, curves/ and ledger/, the results of a case that are in git.

metrics/ has each arm's headline numbers, curves/ quantities over training, ledger/ machine and wall time of each
output. Imports no torch.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from pipeline.metrics.arm_metrics import summarise_arm, write_metrics
from pipeline.run.inputs import read_inputs
from pipeline.run.process import hash_output, run_stage
from pipeline.run.work import parse_arguments
from pipeline.schema.curve import Point, curve_path, list_points, read_history, write_curve
from pipeline.schema.files import write_file
from pipeline.schema.ledger import Entry, ledger_path, make_entry, read_ledger, write_ledger
from pipeline.schema.project import load_project
from pipeline.schema.record import Failure, Record, evaluation_path, read_record, record_path
from pipeline.schema.study import Curve, Study, find_study

ROOT = Path()
_FOLDERS = {"train": "runs", "sample": "samples"}
_PROVENANCE = {"train": "", "sample": "sample", "evaluate": "evaluate", "measure": "evaluate"}
Runs = list[tuple[str, int]]
"""(arm, seed) of each run, in params.yaml's order."""


def copy_records(study: str, case: str, runs: Runs) -> dict[tuple[str, int], Record | Failure]:
    """Copy every evaluation to records/; returns the records by (arm, seed)."""
    found = {}
    for arm, seed in runs:
        target = record_path(ROOT, study, case, arm, seed)
        write_file(target, evaluation_path(ROOT, study, case, arm, seed).read_bytes())
        if (record := read_record(ROOT, study, case, arm, seed)) is not None:
            found[arm, seed] = record
    return found


def follow(study: Study, case: str, curve: Curve, arm: str, seed: int, record: Record | Failure) -> list[Point]:
    """The points of a run's curve. A failed run has those of its history."""
    if curve.history is not None:
        history = ROOT / "runs" / study.name / case / arm / str(seed) / "history.tsv"
        return list_points(curve, arm, seed, read_history(history))
    if isinstance(record, Failure):
        return []
    return [Point(arm, seed, at, value) for at, value in study.points(record, curve)]


def update_ledger(study: Study, case: str, runs: Runs) -> Iterator[Entry]:
    """The ledger's entries; an entry is kept while its output is the same."""
    known = read_ledger(ledger_path(ROOT, study.name, case))
    for arm, seed in runs:
        name = f"{study.name}/{case}/{arm}/{seed}"
        for step in study.steps:
            folder = _FOLDERS.get(step)
            output = ROOT / folder / name if folder else evaluation_path(ROOT, study.name, case, arm, seed)
            provenance = ROOT / "provenance" / _PROVENANCE[step] / f"{name}.json"
            yield make_entry(arm, seed, step, hash_output(output), provenance, known)


def remove_others(folder: Path, kept: Collection[Path]) -> None:
    """Remove files of runs that params.yaml no longer lists; DVC does not empty the folder (`persist`)."""
    for path in sorted(folder.rglob("*"), reverse=True):  # contents come before their folder
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def main() -> None:
    name, case = parse_arguments(__doc__, study=str, case=str)
    study = find_study(name)

    def read() -> tuple[Runs, list[str]]:
        project = load_project(ROOT)
        project.require_case(name, case)
        return list(project.panel.grid(name, case).runs()), project.specs[name].headline

    runs, headline = read_inputs(read)
    records = copy_records(name, case, runs)
    remove_others(ROOT / "records" / name / case, {record_path(ROOT, name, case, arm, seed) for arm, seed in runs})
    metrics = {arm: ROOT / "metrics" / name / case / f"{arm}.json" for arm, _ in runs}
    for arm, path in metrics.items():
        write_metrics(path, summarise_arm(headline, [records[run] for run in runs if run[0] == arm]))
    remove_others(ROOT / "metrics" / name / case, metrics.values())
    for curve in study.curves:
        points = [
            point for (arm, seed), found in records.items() for point in follow(study, case, curve, arm, seed, found)
        ]
        write_curve(curve_path(ROOT, name, case, curve), curve, points)
    write_ledger(ledger_path(ROOT, name, case), update_ledger(study, case, runs))


if __name__ == "__main__":
    run_stage(main)
