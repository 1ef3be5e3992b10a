"""reference DATASET: features and statistics of the training split -> references/DATASET/."""

import argparse
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage, write_provenance
from pipeline.schema.compute import load_compute
from pipeline.schema.data import find_dataset, load_data_spec
from pipeline.studies.ddpm.study import load_ddpm_spec

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    name = parser.parse_args().dataset
    dataset = read_inputs(lambda: find_dataset(load_data_spec(ROOT), name))
    batch_size = read_inputs(lambda: load_ddpm_spec(ROOT).datasets[name].evaluation.batch_size)
    # Features are float32's, and a score is the same each time.
    compute = read_inputs(lambda: load_compute(ROOT)).model_copy(update={"tf32": False, "deterministic": True})
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_split
    from pipeline.metrics.features import load_extractor, write_reference

    device = choose_device(compute)
    extractor = load_extractor(ROOT / "extractors" / name, device, batch_size)
    train = read_split(ROOT / "data" / "ddpm" / name / "train.safetensors")
    write_reference(ROOT / "references" / name, train, dataset.train_images, extractor)
    write_provenance(f"reference/{name}", ROOT / "references" / name, compute, device=device)


if __name__ == "__main__":
    run_stage(main)
