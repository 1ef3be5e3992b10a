"""train_ddpm DATASET ARM SEED: one diffusion model -> runs/ddpm/DATASET/ARM/SEED/.

With several GPUs it starts itself once for each; under torchrun, on one machine or several, it takes its part. An arm
with imported weights is not trained: they are converted.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.inputs import digest_file, read_inputs
from pipeline.run.process import run_stage, write_provenance
from pipeline.schema.compute import load_compute, load_resources
from pipeline.studies.ddpm.study import TRAINED, load_ddpm_spec, resolve_ddpm_run

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    args = parser.parse_args()
    run = read_inputs(lambda: resolve_ddpm_run(load_ddpm_spec(ROOT), args.dataset, args.arm, args.seed))
    compute, resources = read_inputs(lambda: load_compute(ROOT)), load_resources(ROOT)
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_split
    from pipeline.run.checkpoint import Checkpoint, fingerprint_work
    from pipeline.run.live import LiveCurves
    from pipeline.run.workers import Workers
    from pipeline.studies.ddpm.train import train_ddpm, write_imported

    device = choose_device(compute)
    name = f"ddpm/{run.dataset}/{run.arm}/{run.seed}"
    data = ROOT / "data" / "ddpm" / run.dataset / "train.safetensors"
    train, out = read_split(data), ROOT / "runs" / name
    if run.network.weights != TRAINED:
        # By name: trainings of weeks do not depend on the code that converts; the arm's name holds the weights' digest.
        imports = import_module("pipeline.diffusers.imports")
        entry, channels = load_ddpm_spec(ROOT).imports[run.network.weights], train.images.shape[1]
        averages = imports.convert_import(entry, run.network, run.diffusion, channels, run.training.image_size, ROOT)
        write_imported(run, averages, train, device, out)
        return
    with Workers("stages.train_ddpm", resources, device) as worker:
        fingerprint = fingerprint_work(compute, run=run, data=digest_file(data), device=device)
        checkpoint = Checkpoint(ROOT / "checkpoints" / name, fingerprint, resources.checkpoint_minutes)
        live = LiveCurves(ROOT, "ddpm", run.dataset, run.arm, run.seed)
        failure = train_ddpm(run, train, compute, device, out, checkpoint, worker, live)
    if worker.leads:
        if failure is not None:  # recorded, and shown by the tables; the other runs go on
            print(f"{name}: the run failed: {failure}", file=sys.stderr)
        write_provenance(name, out, compute, checkpoint.earlier, device=device, workers=worker.count)


if __name__ == "__main__":
    run_stage(main)
