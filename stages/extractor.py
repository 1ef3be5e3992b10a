"""train_extractor DATASET: the features in which samples are judged -> extractors/DATASET/.

Where the dataset is judged by a classifier, it is trained here; where by Inception, only the choice is noted, and
the weights are fetched by the evaluation that first needs them.
"""

import argparse
import json
from pathlib import Path

from pipeline.process import choose_device, run_stage, tune_process, write_provenance
from pipeline.schema.compute import load_compute
from pipeline.schema.data import ClassifierExtractor, find_dataset, load_data_spec

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    args = parser.parse_args()
    spec = find_dataset(load_data_spec(ROOT), args.dataset).extractor
    out = ROOT / "extractors" / args.dataset
    out.mkdir(parents=True, exist_ok=True)
    description = spec.model_dump()
    if isinstance(spec, ClassifierExtractor):
        compute = load_compute(ROOT)
        tune_process(compute.threads)

        from pipeline.data.arrays import read_split
        from pipeline.training.extractor import train_extractor

        data = ROOT / "data" / "ddpm" / args.dataset
        device = choose_device(compute)
        train, test = read_split(data / "train.safetensors"), read_split(data / "test.safetensors")
        accuracy = train_extractor(spec, train, test, device, out)
        description |= {"test_accuracy": accuracy}
        write_provenance(f"extractor/{args.dataset}", compute, device=device)
        print(f"feature classifier: {accuracy:.2f} % on the test split")
    (out / "extractor.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
