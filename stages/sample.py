"""sample DATASET ARM SEED: averaged weights -> samples/ddpm/DATASET/ARM/SEED/, a preview grid, a trajectory.

With several GPUs it starts itself once for each.
"""

import argparse
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.inputs import digest_file, read_inputs
from pipeline.run.process import run_stage, write_provenance
from pipeline.schema.compute import load_compute, load_resources
from pipeline.schema.files import write_file
from pipeline.studies.ddpm.study import DdpmRun, load_ddpm_spec, resolve_ddpm_run

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    args = parser.parse_args()
    wanted = resolve_ddpm_run(load_ddpm_spec(ROOT), args.dataset, args.arm, args.seed)
    sampling = read_inputs(lambda: load_ddpm_spec(ROOT).datasets[wanted.dataset].sampling)
    compute, resources = read_inputs(lambda: load_compute(ROOT)), load_resources(ROOT)
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_arrays
    from pipeline.data.preview import write_empty_preview, write_preview, write_trajectory
    from pipeline.run.checkpoint import Checkpoint, fingerprint_work
    from pipeline.run.outputs import read_run
    from pipeline.run.workers import Workers
    from pipeline.studies.ddpm.sampler import sample_ddpm

    device = choose_device(compute)
    name = f"ddpm/{wanted.dataset}/{wanted.arm}/{wanted.seed}"
    folder, out = ROOT / "runs" / name, ROOT / "samples" / name
    preview, trajectory = (ROOT / "reports" / kind / f"{name}.png" for kind in ("previews", "trajectories"))
    if (folder / "failure.json").is_file():
        write_file(out / "failure.json", (folder / "failure.json").read_bytes())
        write_empty_preview(preview)
        write_empty_preview(trajectory)
        return
    run, _ = read_run(folder / "run.json", DdpmRun)
    with Workers("stages.sample", resources, device) as worker:
        digests = {path.name: digest_file(path) for path in sorted(folder.glob("ema-*"))}
        fingerprint = fingerprint_work(compute, run=run, sampling=sampling, weights=digests, workers=worker.count)
        checkpoints = [
            Checkpoint(ROOT / "checkpoints" / "sample" / name / str(rank), fingerprint, resources.checkpoint_minutes)
            for rank in range(worker.count)
        ]
        sample_ddpm(run, folder, sampling, compute, device, out, checkpoints, worker)
    if worker.leads:
        write_preview(preview, read_arrays(out / "set-0.safetensors")["images"])
        write_trajectory(trajectory, read_arrays(out / "trajectory.safetensors"))
        write_provenance(f"sample/{name}", out, compute, checkpoints[0].earlier, device=device, workers=worker.count)


if __name__ == "__main__":
    run_stage(main)
