"""train_node DATASET ARM SEED: one classifier -> runs/node/DATASET/ARM/SEED/."""

import argparse
import sys
from pathlib import Path

from pipeline.process import choose_device, run_stage, tune_process, write_provenance
from pipeline.schema.compute import load_compute
from pipeline.schema.node import load_node_spec, resolve_node_run

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    args = parser.parse_args()
    run = resolve_node_run(load_node_spec(ROOT), args.dataset, args.arm, args.seed)
    compute = load_compute(ROOT)
    tune_process(compute.threads)

    from pipeline.data.arrays import read_split
    from pipeline.training.node import train_node

    data = ROOT / "data" / "node" / run.dataset
    device = choose_device(compute)
    name = f"node/{run.dataset}/{run.arm}/{run.seed}"
    train, test = read_split(data / "train.safetensors"), read_split(data / "test.safetensors")
    failure = train_node(run, train, test, compute, device, ROOT / "runs" / name)
    if failure is not None:  # recorded, and shown by the tables; the other runs go on
        print(f"{name}: the run failed: {failure}", file=sys.stderr)
    write_provenance(name, ROOT / "runs" / name, compute, device=device)


if __name__ == "__main__":
    run_stage(main)
