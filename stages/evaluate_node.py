"""evaluate_node DATASET: test predictions of every run that params.yaml lists -> records/node/DATASET/. No torch."""

import argparse
from pathlib import Path

import numpy as np

from pipeline.data.arrays import read_arrays
from pipeline.metrics.classification import measure_accuracy, measure_nll
from pipeline.process import run_stage
from pipeline.schema.data import load_data_spec
from pipeline.schema.panel import load_panel
from pipeline.schema.record import NodeRecord, record_path, write_record

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    grid = load_panel(ROOT, list(load_data_spec(ROOT).datasets)).datasets[dataset].node
    for arm in grid.arms:
        for seed in grid.seeds:
            arrays = read_arrays(ROOT / "runs" / "node" / dataset / arm / str(seed) / "predictions.safetensors")
            labels = arrays["labels"].astype(np.int64)
            best, last = (arrays[f"{epoch}_logits"].astype(np.float64) for epoch in ("best", "last"))
            best_epoch, epochs, num_params = (int(value) for value in arrays["epochs"])
            record = NodeRecord(
                accuracy=measure_accuracy(best, labels),
                accuracy_last=measure_accuracy(last, labels),
                nll=measure_nll(best, labels),
                nll_last=measure_nll(last, labels),
                nfe=float(arrays["best_nfe"].astype(np.float64).mean()),
                nfe_last=float(arrays["last_nfe"].astype(np.float64).mean()),
                best_epoch=best_epoch,
                epochs=epochs,
                images=len(labels),
                num_params=num_params,
            )
            write_record(record_path(ROOT, "node", dataset, arm, seed), record)


if __name__ == "__main__":
    run_stage(main)
