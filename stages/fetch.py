"""fetch STUDY CASE: a dataset -> data/STUDY/CASE/{train,test}.safetensors, at the study's image size."""

import json
from pathlib import Path

from pipeline.compute.threads import tune_process
from pipeline.run.process import run_stage
from pipeline.run.work import open_case, parse_arguments
from pipeline.schema.data import load_data_spec

ROOT = Path()


def main() -> None:
    study, case = parse_arguments(__doc__, study=str, case=str)
    size = json.loads(open_case(study, case, "data"))["image_size"]
    spec = load_data_spec(ROOT)
    dataset = spec.datasets[case]
    tune_process()

    from pipeline.data.arrays import Split, write_split
    from pipeline.data.fetch import fetch_dataset, resize_images

    splits = fetch_dataset(dataset, spec.mirrors, ROOT)
    for name, split in zip(("train", "test"), splits, strict=True):
        resized = Split(resize_images(split.images, size), split.labels, split.classes)
        write_split(ROOT / "data" / study / case / f"{name}.safetensors", resized)
        print(f"{case} {name}: {resized.images.shape} uint8")


if __name__ == "__main__":
    run_stage(main)
