"""evaluate_node DATASET: test predictions of every run that params.yaml lists -> records/node/DATASET/. No torch."""

import argparse
import csv
from pathlib import Path

from pipeline.data.arrays import read_arrays
from pipeline.inputs import read_inputs
from pipeline.metrics.node_record import Row, TimeAwarenessPair, make_node_record
from pipeline.process import run_stage
from pipeline.schema.data import load_data_spec
from pipeline.schema.document import read_document
from pipeline.schema.panel import load_panel
from pipeline.schema.record import Failure, NodeRecord, record_path, write_record

ROOT = Path()


def read_history(path: Path) -> list[Row]:
    """Rows of a history; an empty cell is None."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [{key: float(value) if value else None for key, value in row.items()} for row in rows]


def evaluate(folder: Path) -> NodeRecord | Failure:
    """The record of the run in a folder."""
    if (folder / "failure.json").is_file():
        return read_document(folder / "failure.json", Failure)
    awareness = read_document(folder / "time_awareness.json", TimeAwarenessPair)
    return make_node_record(
        read_arrays(folder / "predictions.safetensors"), read_history(folder / "history.tsv"), awareness
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    grid = read_inputs(lambda: load_panel(ROOT, list(load_data_spec(ROOT).datasets)).datasets[dataset].node)
    for arm in grid.arms:
        for seed in grid.seeds:
            record = evaluate(ROOT / "runs" / "node" / dataset / arm / str(seed))
            write_record(record_path(ROOT, "node", dataset, arm, seed), record)


if __name__ == "__main__":
    run_stage(main)
