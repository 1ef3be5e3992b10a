"""Throughput of NODE training steps: ours against the plain construction, alternating in one process.

    python -m benchmarks.node_step [--case C=64] [--threads 2] [--steps 10] [--device cpu] [--peak TFLOPS] [--json FILE]

Gradient: relative distance between the gradients of the ODE function's convolutions; those of our direct solve are
compared with torchdiffeq's direct solve, since the adjoint has an error of its own.
"""

import argparse
import json
import platform
from pathlib import Path

from pipeline.compute.threads import tune_process
from pipeline.schema.study import find_study, load_study_spec, resolve_run

ROOT = Path(__file__).resolve().parent.parent
CASES = {
    "C=64": ("cifar10", {"channels": 64, "dropout": 0.0}, (3, 32), 128),
    "digits": ("digits", {}, (1, 12), 96),
    "C=256": ("cifar10", {"dropout": 0.0}, (3, 32), 128),
}
VARIANTS = {
    "adjoint": ({"gradient": "adjoint"}, False),
    "direct": ({"gradient": "direct"}, False),
    "direct, bfloat16": ({"gradient": "direct"}, True),
}


def main() -> None:
    """Print a table; a row is one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device's matrix units, to show the fraction reached")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tune_process(args.threads, portable=False)

    import torch
    import torchdiffeq

    from benchmarks.plain_node import compare

    cases = args.case or (["C=64", "digits"] if args.device == "cpu" else list(CASES))
    processor = f"{args.threads} threads, {platform.processor() or platform.machine()}"
    where = torch.cuda.get_device_name() if args.device == "cuda" else processor
    print(f"torch {torch.__version__}, torchdiffeq {torchdiffeq.__version__}, {where}")
    columns = f"{'plain ms':>9} {'ours ms':>8} {'ratio':>6}  {'quartiles':12} {'NFE-F':>7} {'NFE-B':>7}"
    print(f"{'':28}{columns} {'gradient off by':>16} {'TFLOP/s':>8}")
    results = {}
    for case in cases:
        dataset, fields, image, batch = CASES[case]
        base = resolve_run(find_study("node"), load_study_spec(ROOT, "node"), dataset, "baseline", 0)[0].network
        for variant, (more, bfloat16) in VARIANTS.items():
            if bfloat16 and case == "digits":  # slower than float32 there: there is too little to multiply
                continue
            network = base.model_copy(update={**fields, **more})
            result = compare(network, image, batch, bfloat16, args.steps, args.device)
            results[f"{case}, {variant}"] = result
            low, high = result["ratio_quartiles"]
            nfe = [f"{result['nfe']['plain'][index]}/{result['nfe']['ours'][index]}" for index in (0, 1)]
            print(
                f"{case + ', ' + variant:28}{result['plain_ms']:9.1f} {result['ours_ms']:8.1f} {result['ratio']:6.2f}  "
                f"{low:.2f} - {high:.2f}  {nfe[0]:>7} {nfe[1]:>7} {result['gradient_difference']:16.1e} "
                f"{result['ours_tflops']:8.3f}" + (f" {result['ours_tflops'] / args.peak:.1%}" if args.peak else ""),
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
