"""train_ddpm CASE ARM SEED: train one diffusion model -> runs/ddpm/CASE/ARM/SEED/.

With several GPUs, it starts one process per GPU; under torchrun, on one machine or several, it joins the others. For an
arm with imported weights, it converts them instead.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.inputs import require_closure
from pipeline.run.process import run_stage, write_provenance
from pipeline.run.work import Work, open_run, parse_arguments
from pipeline.schema.files import digest_file
from pipeline.studies.ddpm.study import TRAINED, DdpmSpec

ROOT = Path()


def convert_weights(work: Work, channels: int) -> None:
    """Convert imported weights.

    The converting code is imported by name, which keeps it out of this stage's closure: an edit of it makes no training
    stale. The arm's name holds the digest of the weights.
    """
    imports: Any = import_module("pipeline.diffusers.imports")
    training: Any = import_module("pipeline.studies.ddpm.train")
    run, spec = work.run, work.spec
    assert isinstance(spec, DdpmSpec)
    entry, size = spec.imports[run.network.weights], run.training.image_size
    averages = imports.convert_import(entry, run.network, run.diffusion, channels, size, ROOT)
    training.write_imported(averages, work.settings, ROOT / "runs" / work.name)


def main() -> None:
    case, arm, seed = parse_arguments(__doc__, case=str, arm=str, seed=int)
    work = open_run("ddpm", case, arm, seed)
    compute, resources = work.compute, work.resources
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_split
    from pipeline.run.checkpoint import fingerprint_work, open_checkpoint
    from pipeline.run.live import LiveHistory
    from pipeline.run.workers import Workers
    from pipeline.studies.ddpm.train import train_ddpm

    device = choose_device(compute)
    data = ROOT / "data" / "ddpm" / case / "train.safetensors"
    train, out = read_split(data), ROOT / "runs" / work.name
    if work.run.network.weights != TRAINED:
        convert_weights(work, train.images.shape[1])
        return
    with Workers("stages.train_ddpm", resources, device) as worker:
        closure, digest = require_closure("train_ddpm"), digest_file(data)
        fingerprint = fingerprint_work(closure, work.settings, data=digest, device=device)
        checkpoint = open_checkpoint(ROOT, work.name, fingerprint, resources.checkpoint_minutes)
        live = LiveHistory(ROOT, work.run)
        failure = train_ddpm(work.run, train, compute, device, out, checkpoint, work.settings, worker, live)
    if worker.leads:
        live.close()
        if failure is not None:  # recorded, and shown by the tables; the other runs go on
            print(f"{work.name}: the run failed: {failure}", file=sys.stderr)
        write_provenance(work.name, out, compute, checkpoint.earlier, device=device, workers=worker.count)


if __name__ == "__main__":
    run_stage(main)
