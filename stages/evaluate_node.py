"""evaluate_node DATASET: test predictions of every run that params.yaml lists -> records/node/DATASET/. No torch."""

import argparse
import csv
import json
from pathlib import Path
from statistics import fmean

import numpy as np

from pipeline.data.arrays import read_arrays
from pipeline.metrics.classification import measure_accuracy, measure_nll
from pipeline.process import run_stage
from pipeline.schema.data import load_data_spec
from pipeline.schema.panel import load_panel
from pipeline.schema.record import Failure, NodeRecord, TimeAwareness, record_path, write_record

ROOT = Path()


def read_history(path: Path) -> list[dict[str, float | None]]:
    """Rows of a history; an empty cell is None."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [{key: float(value) if value else None for key, value in row.items()} for row in rows]


def measure_nfe(counts: np.ndarray) -> float | None:
    """Mean over batches; None where there is no ODE block, which is written as -1."""
    return float(counts.astype(np.float64).mean()) if counts.min() >= 0 else None


def average(shares: list[float | None]) -> float | None:
    """Mean over the sites; None if one is."""
    known = [share for share in shares if share is not None]
    return fmean(known) if len(known) == len(shares) else None


def evaluate(folder: Path) -> NodeRecord | Failure:
    """The record of the run in a folder."""
    if (folder / "failure.json").is_file():
        return Failure(**json.loads((folder / "failure.json").read_text(encoding="utf-8")))
    arrays = read_arrays(folder / "predictions.safetensors")
    labels = arrays["labels"].astype(np.int64)
    best, last = (arrays[f"{epoch}_logits"].astype(np.float64) for epoch in ("best", "last"))
    best_epoch, epochs, num_params = (int(value) for value in arrays["epochs"])
    history = read_history(folder / "history.tsv")
    awareness = json.loads((folder / "time_awareness.json").read_text(encoding="utf-8"))
    initial, trained = (
        TimeAwareness(**awareness[when]) if when in awareness else None for when in ("initial", "trained")
    )
    return NodeRecord(
        accuracy=measure_accuracy(best, labels),
        accuracy_last=measure_accuracy(last, labels),
        nll=measure_nll(best, labels),
        nll_last=measure_nll(last, labels),
        nfe=measure_nfe(arrays["best_nfe"]),
        nfe_last=measure_nfe(arrays["last_nfe"]),
        nfe_train=history[best_epoch - 1]["train_nfe"],
        nfe_train_last=history[-1]["train_nfe"],
        nfe_backward=history[best_epoch - 1]["backward_nfe"],
        nfe_backward_last=history[-1]["backward_nfe"],
        change_initial=initial.change[-1] if initial else None,
        change=trained.change[-1] if trained else None,
        share_initial=average(initial.site_share) if initial else None,
        share=average(trained.site_share) if trained else None,
        best_epoch=best_epoch,
        epochs=epochs,
        images=len(labels),
        num_params=num_params,
        initial=initial,
        trained=trained,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    grid = load_panel(ROOT, list(load_data_spec(ROOT).datasets)).datasets[dataset].node
    for arm in grid.arms:
        for seed in grid.seeds:
            record = evaluate(ROOT / "runs" / "node" / dataset / arm / str(seed))
            write_record(record_path(ROOT, "node", dataset, arm, seed), record)


if __name__ == "__main__":
    run_stage(main)
