"""evaluate_ddpm DATASET ARM SEED: FID, KID and IS of the samples -> evaluations/ddpm/DATASET/ARM/SEED.json."""

import argparse
from importlib.metadata import version
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage, write_provenance
from pipeline.schema.compute import Compute, load_compute
from pipeline.schema.data import find_dataset, load_data_spec
from pipeline.schema.document import read_document
from pipeline.schema.record import Failure, Scores, evaluation_path, write_record
from pipeline.studies.ddpm.documents import LevelAwarenessPair, SampleSets, TrainedModel
from pipeline.studies.ddpm.record import check_steps, list_ddpm_settings, make_ddpm_record, make_protocol
from pipeline.studies.ddpm.study import load_ddpm_spec

ROOT = Path()


def evaluate(dataset: str, name: str, samples: SampleSets, compute: Compute, out: Path) -> None:
    """Score every sample set of a run in one process, and write its record to `out`."""
    runs, folder = ROOT / "runs" / name, ROOT / "samples" / name
    model = read_document(runs / "run.json", TrainedModel)
    awareness = read_document(runs / "level_awareness.json", LevelAwarenessPair)
    check_steps(model, samples)
    evaluation = read_inputs(lambda: load_ddpm_spec(ROOT).datasets[dataset].evaluation)
    spec = read_inputs(lambda: find_dataset(load_data_spec(ROOT), dataset).extractor)

    from pipeline.data.samples import locate_set, locate_snapshot, read_set
    from pipeline.metrics.features import load_extractor, read_reference
    from pipeline.metrics.generative import measure_scores

    device = choose_device(compute)
    extractor = load_extractor(ROOT / "extractors" / dataset, device, evaluation.batch_size)
    reference, statistics = read_reference(ROOT / "references" / dataset, extractor)

    def score(path: Path) -> Scores:
        images = read_set(path, samples.sampling.images, reference.shape)
        return measure_scores(extractor.extract(images), statistics, evaluation)

    sets = [score(locate_set(folder, index)) for index in range(samples.sampling.sets)]
    earlier = [score(locate_snapshot(folder, step)) for step in samples.snapshots]
    versions = {package: version(package) for package in ("torch", "torch-fidelity", "numpy")}
    protocol = make_protocol(model, samples, reference, evaluation, versions)
    settings = list_ddpm_settings(model, samples.sampling, evaluation, spec)
    write_record(out, make_ddpm_record(model, awareness, samples, sets, earlier, protocol, settings))
    write_provenance(f"evaluate/{name}", out, compute, device=device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    args = parser.parse_args()
    name = f"ddpm/{args.dataset}/{args.arm}/{args.seed}"
    # Features are float32's, and a score is the same each time.
    compute = read_inputs(lambda: load_compute(ROOT)).model_copy(update={"tf32": False, "deterministic": True})
    tune_process(compute.threads, compute.portable)

    from pipeline.data.samples import read_samples

    samples = read_samples(ROOT / "samples" / name)
    out = evaluation_path(ROOT, "ddpm", args.dataset, args.arm, args.seed)
    if isinstance(samples, Failure):
        model = read_document(ROOT / "runs" / name / "run.json", TrainedModel)
        write_record(out, samples.model_copy(update={"settings": list_ddpm_settings(model)}))
    else:
        evaluate(args.dataset, name, samples, compute, out)


if __name__ == "__main__":
    run_stage(main)
