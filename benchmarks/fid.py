"""Time to FID and Inception Score of images against a fixed reference: ours and torch-fidelity's, alternating.

    python -m benchmarks.fid [--images 256] [--weights FILE] [--device cpu] [--threads 2] [--repeats 1] [--json FILE]

Processes: ours, from arrays in a file, beside torch-fidelity's command on a folder of PNG files, start-up included.
Functions: both on arrays in memory of one process; torch-fidelity makes its network anew in each call, ours is open.
The same batch size, weights and device; the reference's features are at hand for both (torch-fidelity's cache).
Without --weights they are random, in the true format: the values mean nothing then, but agree.
"""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.schema.compute import load_compute
from pipeline.schema.files import digest_file

ROOT = Path(__file__).resolve().parent.parent
SPLITS = 10


def write_random_weights(path: Path, seed: int = 0) -> None:
    """Write weights for torch-fidelity's Inception, drawn such that the signal keeps its size through the layers."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, state: Any) -> None:  # type: ignore[override]
            """Keep the parameters as they are: there is nothing to load yet."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    state = Blank("blank", ["2048"], feature_extractor_weights_path=nothing).state_dict()
    generator = torch.Generator().manual_seed(seed)
    for name, value in state.items():
        if name.endswith("conv.weight"):
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        elif name.startswith("fc"):
            value.normal_(0, 1, generator=generator)
    torch.save(state, path)


def measure(images: Any, reference: Any, extract: Any) -> dict[str, float]:
    """FID and IS, ours."""
    from pipeline.metrics.generative import measure_fid, measure_inception_score, measure_statistics

    found = extract(images)
    return {
        "fid": measure_fid(measure_statistics(found.features), reference),
        "inception_score": measure_inception_score(found.logits_unbiased, SPLITS)[0],
    }


def run_worker(folder: Path, weights: Path, batch_size: int, device: str) -> None:
    """Our side as a process of its own: print the values as JSON."""
    import torch

    from pipeline.data.arrays import read_arrays
    from pipeline.metrics.generative import Statistics, open_extractor, register_inception

    extract = open_extractor(register_inception(weights, digest_file(weights)), device, batch_size)
    arrays = read_arrays(folder / "reference.safetensors")
    reference = Statistics(torch.from_numpy(arrays["features"]), arrays["mean"], arrays["covariance"])
    print(json.dumps(measure(read_arrays(folder / "samples.safetensors")["images"], reference, extract)))


def time_process(command: list[str], threads: int) -> tuple[float, dict[str, Any]]:
    """Seconds from start to end, and the JSON that the command prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment["PYTHONWARNINGS"] = "ignore"  # of how many workers torch-fidelity's data loader starts
    start = time.perf_counter()
    output = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return time.perf_counter() - start, json.loads(output)


def time_call(function: Callable[[], dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    """Seconds, and what the function returns."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main() -> None:
    """Print a table; a row is one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--weights", type=Path, help="torch-fidelity's file; random without")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64, help="torch-fidelity's default is 64")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    tune_process(args.threads, portable=False)
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # torch-fidelity's
    choose_device(load_compute(ROOT).model_copy(update={"device": args.device, "tf32": False, "compile": False}))
    if args.worker:
        run_worker(args.worker, args.weights, args.batch_size, args.device)
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = args.weights
        if weights is None:
            weights = Path(folder) / "random.pth"
            write_random_weights(weights)
        results = compare(Path(folder), weights.resolve(), args)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def compare(folder: Path, weights: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Time both comparisons, print them, and return what was measured."""
    import numpy as np
    import torch
    import torch_fidelity
    from PIL import Image
    from torch.utils.data import Dataset

    from pipeline.data.arrays import write_arrays
    from pipeline.metrics.generative import measure_statistics, open_extractor, register_inception

    class Images(Dataset[torch.Tensor]):
        def __init__(self, images: Any) -> None:
            self.images = torch.from_numpy(images)

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> torch.Tensor:
            return self.images[index]

    generator = np.random.default_rng(0)
    # Coarse random images: pure noise of single pixels looks the same to a convolutional network.
    coarse = generator.integers(0, 256, (2, args.images, 3, 4, 4), dtype=np.uint8)
    samples, reference_images = coarse.repeat(8, axis=3).repeat(8, axis=4)
    start = time.perf_counter()
    for name, images in (("samples", samples), ("reference", reference_images)):
        (folder / name).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / name / f"{index:06d}.png")
    png_seconds = (time.perf_counter() - start) / 2

    extract = open_extractor(register_inception(weights, digest_file(weights)), args.device, args.batch_size)
    reference = measure_statistics(extract(reference_images).features)
    arrays = {"features": reference.features.numpy(), "mean": reference.mean, "covariance": reference.covariance}
    write_arrays(folder / "reference.safetensors", arrays)
    write_arrays(folder / "samples.safetensors", {"images": samples})

    common = ["--weights", str(weights), "--device", args.device, "--threads", str(args.threads)]
    ours = [sys.executable, "-m", "benchmarks.fid", "--worker", str(folder), "--batch-size", str(args.batch_size)]
    theirs = [sys.executable, "-m", "torch_fidelity.fidelity", "--fid", "--isc", "--json", "--silent"]
    theirs += ["--cpu"] if args.device == "cpu" else ["--gpu", os.environ.get("CUDA_VISIBLE_DEVICES", "0")]
    theirs += ["--input1", str(folder / "samples"), "--input2", str(folder / "reference")]
    theirs += ["--input2-cache-name", "reference", "--cache-root", str(folder / "cache")]
    theirs += ["--batch-size", str(args.batch_size), "--isc-splits", str(SPLITS)]
    theirs += ["--feature-extractor-weights-path", str(weights)]

    def call_theirs() -> dict[str, Any]:
        return torch_fidelity.calculate_metrics(
            input1=Images(samples), input2=Images(reference_images), input2_cache_name="in-memory", fid=True, isc=True,
            isc_splits=SPLITS, batch_size=args.batch_size, cuda=args.device == "cuda", verbose=False,
            cache_root=str(folder / "cache"), feature_extractor_weights_path=str(weights),
        )  # fmt: skip

    time_process(theirs, args.threads)  # fills the cache with the reference
    call_theirs()
    sides: dict[str, tuple[Callable[[], tuple[float, dict[str, Any]]], ...]] = {
        "processes": (lambda: time_process(theirs, args.threads), lambda: time_process(ours + common, args.threads)),
        "functions": (
            lambda: time_call(call_theirs),
            lambda: time_call(lambda: measure(samples, reference, extract)),
        ),
    }
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} threads, {platform.machine()}"
    print(f"torch {torch.__version__}, torch-fidelity {torch_fidelity.__version__}, {where}")
    print(f"{args.images} images of 32x32, batches of {args.batch_size}; writing their PNG files: {png_seconds:.2f} s")
    print(f"{'':11}{'torch-fidelity s':>17} {'ours s':>8} {'ratio':>6}   {'FID of both':28} IS of both")
    results: dict[str, Any] = {"images": args.images, "device": args.device, "png_seconds": png_seconds}
    for name, (their_run, our_run) in sides.items():
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(args.repeats):
            spent, peer = their_run()
            seconds[0].append(spent)
            spent, own = our_run()
            seconds[1].append(spent)
        ratio = median(a / b for a, b in zip(*seconds, strict=True))
        fids = [peer["frechet_inception_distance"], own["fid"]]
        scores = [peer["inception_score_mean"], own["inception_score"]]
        a, b = (median(each) for each in seconds)
        print(
            f"{name:11}{a:17.2f} {b:8.2f} {ratio:6.2f}   {fids[0]:<13.8g} {fids[1]:<14.8g} "
            f"{scores[0]:.8g} {scores[1]:.8g}",
            flush=True,
        )
        results[name] = {"torch_fidelity_s": seconds[0], "ours_s": seconds[1], "ratio": ratio}
        results[name] |= {"fid": fids, "inception_score": scores}
    return results


if __name__ == "__main__":
    main()
