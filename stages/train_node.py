"""train_node DATASET ARM SEED: one classifier -> runs/node/DATASET/ARM/SEED/."""

import argparse
import sys
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.inputs import digest_file, read_inputs
from pipeline.run.process import run_stage, write_provenance
from pipeline.schema.compute import load_compute, load_resources
from pipeline.studies.node.study import load_node_spec, resolve_node_run

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    args = parser.parse_args()
    run = read_inputs(lambda: resolve_node_run(load_node_spec(ROOT), args.dataset, args.arm, args.seed))
    compute, resources = read_inputs(lambda: load_compute(ROOT)), load_resources(ROOT)
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_split
    from pipeline.run.checkpoint import Checkpoint, fingerprint_work
    from pipeline.run.live import LiveCurves
    from pipeline.studies.node.train import train_node

    device = choose_device(compute)
    name = f"node/{run.dataset}/{run.arm}/{run.seed}"
    data = [ROOT / "data" / "node" / run.dataset / f"{split}.safetensors" for split in ("train", "test")]
    train, test = (read_split(path) for path in data)
    fingerprint = fingerprint_work(compute, run=run, data=[digest_file(path) for path in data], device=device)
    checkpoint = Checkpoint(ROOT / "checkpoints" / name, fingerprint, resources.checkpoint_minutes)
    live = LiveCurves(ROOT, "node", run.dataset, run.arm, run.seed)
    failure = train_node(run, train, test, compute, device, ROOT / "runs" / name, checkpoint, live)
    if failure is not None:  # recorded, and shown by the tables; the other runs go on
        print(f"{name}: the run failed: {failure}", file=sys.stderr)
    write_provenance(name, ROOT / "runs" / name, compute, checkpoint.earlier, device=device)


if __name__ == "__main__":
    run_stage(main)
