"""evaluate_ddpm DATASET ARM SEED: FID and IS of the samples -> records/ddpm/DATASET/ARM/SEED.json."""

import argparse
from pathlib import Path

from pipeline.process import choose_device, run_stage, tune_process, write_provenance
from pipeline.schema.compute import load_compute
from pipeline.schema.data import ClassifierExtractor, find_dataset, load_data_spec
from pipeline.schema.ddpm import DdpmRun, load_ddpm_spec
from pipeline.schema.record import DdpmRecord, record_path, write_record

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    args = parser.parse_args()
    spec = load_ddpm_spec(ROOT).datasets[args.dataset]
    extractor = find_dataset(load_data_spec(ROOT), args.dataset).extractor
    compute = load_compute(ROOT)
    tune_process(compute.threads)

    from pipeline.data.arrays import read_arrays, read_split
    from pipeline.data.download import download_file
    from pipeline.metrics.generative import INCEPTION, register_extractor, score_images
    from pipeline.training.extractor import load_extractor
    from pipeline.training.outputs import read_run

    device = choose_device(compute)
    name = f"ddpm/{args.dataset}/{args.arm}/{args.seed}"
    samples = read_arrays(ROOT / "samples" / name / "images.safetensors")["images"]
    reference = read_split(ROOT / "data" / "ddpm" / args.dataset / "train.safetensors")
    weights = None
    if isinstance(extractor, ClassifierExtractor):
        label, extract = load_extractor(extractor, reference, device, ROOT / "extractors" / args.dataset)
        registered = register_extractor(label, extract)
    else:
        registered, label = INCEPTION, f"{INCEPTION} {extractor.sha256[:12]}"
        weights = download_file(extractor.url, ROOT / "downloads", extractor.sha256, "sha256")
    scores = score_images(samples, reference.images, registered, spec.evaluation.isc_splits, device, weights)
    run, num_params = read_run(ROOT / "runs" / name / "run.json", DdpmRun)
    record = DdpmRecord(
        fid=scores.fid,
        inception_score=scores.inception_score,
        inception_score_std=scores.inception_score_std,
        images=len(samples),
        reference_images=len(reference.images),
        isc_splits=spec.evaluation.isc_splits,
        sampling_steps=spec.sampling.steps,
        training_steps=run.training.steps,
        num_params=num_params,
        extractor=label,
    )
    write_record(record_path(ROOT, "ddpm", args.dataset, args.arm, args.seed), record)
    write_provenance(f"evaluate/{name}", compute, device=device)


if __name__ == "__main__":
    run_stage(main)
