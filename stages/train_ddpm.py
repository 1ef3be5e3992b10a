"""train_ddpm DATASET ARM SEED: one diffusion model -> runs/ddpm/DATASET/ARM/SEED/."""

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
    run = resolve_ddpm_run(load_ddpm_spec(ROOT), args.dataset, args.arm, args.seed)
    compute = load_compute(ROOT)
    tune_process(compute.threads)

    from pipeline.data.arrays import read_split
    from pipeline.training.ddpm import train_ddpm

    device = choose_device(compute)
    name = f"ddpm/{run.dataset}/{run.arm}/{run.seed}"
    train = read_split(ROOT / "data" / "ddpm" / run.dataset / "train.safetensors")
    train_ddpm(run, train, compute, device, ROOT / "runs" / name)
    write_provenance(name, compute, device=device)


if __name__ == "__main__":
    run_stage(main)
