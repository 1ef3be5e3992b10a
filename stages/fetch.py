"""fetch STUDY DATASET: source -> data/STUDY/DATASET/{train,test}.safetensors at the study's image size."""

import argparse
from pathlib import Path

from pipeline.inputs import read_inputs
from pipeline.process import run_stage, tune_process
from pipeline.schema.data import find_dataset, load_data_spec
from pipeline.schema.ddpm import load_ddpm_spec
from pipeline.schema.node import load_node_spec

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=["node", "ddpm"])
    parser.add_argument("dataset")
    args = parser.parse_args()
    spec = load_data_spec(ROOT)
    dataset = read_inputs(lambda: find_dataset(load_data_spec(ROOT), args.dataset))
    if args.study == "node":
        size = read_inputs(lambda: load_node_spec(ROOT).datasets[args.dataset].training.image_size)
    else:
        size = read_inputs(lambda: load_ddpm_spec(ROOT).datasets[args.dataset].training.image_size)
    tune_process()

    from pipeline.data.arrays import Split, write_split
    from pipeline.data.fetch import fetch_dataset, resize_images

    splits = fetch_dataset(dataset, spec.mirrors, ROOT)
    for name, split in zip(("train", "test"), splits, strict=True):
        resized = Split(resize_images(split.images, size), split.labels, split.classes)
        write_split(ROOT / "data" / args.study / args.dataset / f"{name}.safetensors", resized)
        print(f"{args.dataset} {name}: {resized.images.shape} uint8")


if __name__ == "__main__":
    run_stage(main)
