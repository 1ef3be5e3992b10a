"""sample CASE ARM SEED: averaged weights -> samples/ddpm/CASE/ARM/SEED/, a preview grid, a trajectory.

With several GPUs, it starts one process per GPU.
"""

import json
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.foreign import read_trained
from pipeline.run.inputs import require_closure
from pipeline.run.process import run_stage, write_provenance
from pipeline.run.work import open_case, parse_arguments
from pipeline.schema.compute import Compute, load_resources
from pipeline.schema.diffusion import Sampling
from pipeline.schema.files import digest_file, write_file
from pipeline.studies.ddpm.study import DdpmRun

ROOT = Path()


def main() -> None:
    case, arm, seed = parse_arguments(__doc__, case=str, arm=str, seed=int)
    settings = open_case("ddpm", case, "sampling")
    content = json.loads(settings)
    sampling, compute = Sampling.model_validate(content["sampling"]), Compute.model_validate(content["compute"])
    resources = load_resources(ROOT)
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_arrays
    from pipeline.data.preview import write_empty_preview, write_preview, write_trajectory
    from pipeline.run.checkpoint import fingerprint_work, open_checkpoint
    from pipeline.run.workers import Workers
    from pipeline.studies.ddpm.sampler import sample_ddpm
    from pipeline.studies.ddpm.sampling_trace import trace_sampling

    device = choose_device(compute)
    name = f"ddpm/{case}/{arm}/{seed}"
    folder, out = ROOT / "runs" / name, ROOT / "samples" / name
    preview, trajectory = (ROOT / "reports" / kind / f"{name}.png" for kind in ("previews", "trajectories"))
    if (folder / "failure.json").is_file():
        write_file(out / "failure.json", (folder / "failure.json").read_bytes())
        write_empty_preview(preview)
        write_empty_preview(trajectory)
        return
    run, _ = read_trained(folder / "run.json", DdpmRun)
    with Workers("stages.sample", resources, device) as worker:
        digests = {path.name: digest_file(path) for path in sorted(folder.glob("ema-*"))}
        closure = require_closure("sample")
        fingerprint = fingerprint_work(closure, settings, run=run.model_dump(), weights=digests, workers=worker.count)
        checkpoints = [
            open_checkpoint(ROOT, f"sample/{name}/{rank}", fingerprint, resources.checkpoint_minutes)
            for rank in range(worker.count)
        ]
        trace = trace_sampling(run, sampling) if worker.leads else ""
        sample_ddpm(run, folder, sampling, compute, device, out, checkpoints, worker, trace)
    if worker.leads:
        write_preview(preview, read_arrays(out / "set-0.safetensors")["images"])
        write_trajectory(trajectory, read_arrays(out / "trajectory.safetensors"))
        write_provenance(f"sample/{name}", out, compute, checkpoints[0].earlier, device=device, workers=worker.count)


if __name__ == "__main__":
    run_stage(main)
