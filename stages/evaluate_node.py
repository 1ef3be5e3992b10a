"""evaluate_node DATASET: predictions of every run that params.yaml lists -> evaluations/node/DATASET/. No torch."""

import argparse
from pathlib import Path

from pipeline.compute.threads import tune_process
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.curve import read_history
from pipeline.schema.data import load_data_spec
from pipeline.schema.document import read_document
from pipeline.schema.panel import load_panel
from pipeline.schema.record import Failure, NodeRecord, evaluation_path, write_record

ROOT = Path()


def evaluate(folder: Path) -> NodeRecord | Failure:
    """The record of the run in a folder."""
    from pipeline.data.arrays import read_arrays
    from pipeline.studies.node.record import TimeAwarenessPair, TrainedClassifier, make_node_record

    settings = read_document(folder / "run.json", TrainedClassifier).list_settings()
    if (folder / "failure.json").is_file():
        return read_document(folder / "failure.json", Failure).model_copy(update={"settings": settings})
    awareness = read_document(folder / "time_awareness.json", TimeAwarenessPair)
    return make_node_record(
        read_arrays(folder / "predictions.safetensors"), read_history(folder / "history.tsv"), awareness, settings
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    grid = read_inputs(lambda: load_panel(ROOT, list(load_data_spec(ROOT).datasets)).datasets[dataset].node)
    tune_process()
    for arm in grid.arms:
        for seed in grid.seeds:
            record = evaluate(ROOT / "runs" / "node" / dataset / arm / str(seed))
            write_record(evaluation_path(ROOT, "node", dataset, arm, seed), record)


if __name__ == "__main__":
    run_stage(main)
