"""sample DATASET ARM SEED: averaged weights -> samples/ddpm/DATASET/ARM/SEED/ and a preview grid."""

import argparse
from pathlib import Path

from pipeline.process import choose_device, run_stage, tune_process, write_provenance
from pipeline.schema.compute import load_compute
from pipeline.schema.ddpm import load_ddpm_spec, resolve_ddpm_run

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    args = parser.parse_args()
    spec = load_ddpm_spec(ROOT)
    run = resolve_ddpm_run(spec, args.dataset, args.arm, args.seed)
    sampling = spec.datasets[run.dataset].sampling
    compute = load_compute(ROOT)
    tune_process(compute.threads)

    from pipeline.data.arrays import read_split, write_arrays
    from pipeline.data.preview import write_preview
    from pipeline.training.sample import sample_ddpm

    device = choose_device(compute)
    name = f"ddpm/{run.dataset}/{run.arm}/{run.seed}"
    channels = read_split(ROOT / "data" / "ddpm" / run.dataset / "train.safetensors").images.shape[1]
    images = sample_ddpm(ROOT / "runs" / name, sampling, channels, compute, device)
    write_arrays(ROOT / "samples" / name / "images.safetensors", {"images": images})
    write_preview(ROOT / "reports" / "previews" / f"{name}.png", images)
    write_provenance(f"sample/{name}", compute, device=device)


if __name__ == "__main__":
    run_stage(main)
