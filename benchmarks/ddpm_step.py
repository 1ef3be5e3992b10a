"""Throughput of diffusion models: ours against diffusers' UNet2DModel in its plain loops, alternating in one process.

    python -m benchmarks.ddpm_step [--case cifar10] [--precision bfloat16] [--threads 2] [--steps 5] [--device cpu]
                                   [--peak TFLOPS] [--json FILE]

Both sides have attention after every block on the way up (up_attention=each), as UNet2DModel knows nothing else.
Loss off by: relative difference of the losses on the same images, levels and noise.
"""

import argparse
import json
import platform
from pathlib import Path

from pipeline.compute.threads import tune_process
from pipeline.schema.study import find_study, load_study_spec, resolve_later, resolve_run

ROOT = Path(__file__).resolve().parent.parent
CASES = {  # dataset, image channels, what, batch on a CPU and on a GPU, sampling steps, precisions
    "cifar10": [
        ("cifar10", 3, "training", (8, 128), 1, ("float32", "bfloat16")),
        ("cifar10", 3, "sampling", (8, 128), 4, ("float32", "bfloat16")),
    ],
    "digits": [
        ("digits", 1, "training", (128, 128), 1, ("float32",)),  # too little to multiply for bfloat16
        ("digits", 1, "sampling", (250, 250), 50, ("float32",)),
    ],
}


def main() -> None:
    """Print a table; a row is one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="timed pairs of both sides")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--what", choices=["training", "sampling"], action="append")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], action="append")
    parser.add_argument("--compile", action="store_true", help="torch.compile of our side")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device's matrix units, to show the fraction reached")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tune_process(args.threads, portable=False)

    import diffusers
    import torch

    from benchmarks.plain_ddpm import Case, compare

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # as in our stages
    torch.manual_seed(0)
    processor = f"{args.threads} threads, {platform.processor() or platform.machine()}"
    where = torch.cuda.get_device_name() if args.device == "cuda" else processor
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, {where}")
    columns = f"{'plain ms':>9} {'ours ms':>8} {'ratio':>6}  {'quartiles':12} {'images/s':>9} {'TFLOP/s':>8}"
    print(f"{'':40}{columns} {'loss off by':>12} {'peak GB, plain and ours':>24}")
    study, spec, results = find_study("ddpm"), load_study_spec(ROOT, "ddpm"), {}
    cases = [case for name in args.case or CASES for case in CASES[name]]
    for dataset, channels, what, batches, sampling_steps, precisions in cases:
        batch = batches[args.device == "cuda"]
        run, _ = resolve_run(study, spec, dataset, "up_attention=each", 0)
        run = run.model_copy(update={"training": run.training.model_copy(update={"batch_size": batch})})
        sampling = resolve_later(study, spec, dataset)["sampling"].model_copy(
            update={"steps": sampling_steps, "labels": "integer"}
        )
        if what not in (args.what or [what]):
            continue
        for precision in [one for one in precisions if one in (args.precision or precisions)]:
            result = compare(Case(run, sampling, channels, what), precision, args.steps, args.device, args.compile)
            name = f"{dataset}, {what}, batch {batch}, {precision}"
            results[name] = result
            low, high = result["ratio_quartiles"]
            loss = result["loss"]
            print(
                f"{name:40}{result['plain_ms']:9.1f} {result['ours_ms']:8.1f} {result['ratio']:6.2f}  "
                f"{low:.2f} - {high:.2f}  {result['ours_images_per_second']:9.1f} {result['ours_tflops']:8.3f} "
                f"{abs(loss['ours'] / loss['plain'] - 1):12.1e} "
                + "{:>24}".format(" and ".join(f"{value:.1f}" for value in result["peak_gigabytes"].values()) or "-")
                + (f" {result['ours_tflops'] / args.peak:.1%} of the peak" if args.peak else ""),
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
