"""evaluate_ddpm CASE ARM SEED: FID, KID, IS, test loss, level-awareness -> evaluations/ddpm/CASE/ARM/SEED.json."""

import json
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.foreign import read_trained
from pipeline.run.process import run_stage, write_provenance
from pipeline.run.work import exact_compute, open_case, parse_arguments
from pipeline.schema.compute import Compute
from pipeline.schema.record import Failure, evaluation_path, write_record
from pipeline.schema.resolved import read_extractor
from pipeline.schema.scores import Evaluation
from pipeline.studies.ddpm.study import DdpmRun

ROOT = Path()


def main() -> None:
    case, arm, seed = parse_arguments(__doc__, case=str, arm=str, seed=int)
    content, name = json.loads(open_case("ddpm", case, "evaluation")), f"ddpm/{case}/{arm}/{seed}"
    evaluation = Evaluation.model_validate(content["evaluation"])
    compute = exact_compute(Compute.model_validate(content["compute"]))
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_split
    from pipeline.studies.ddpm.evaluate import Folders, evaluate_ddpm
    from pipeline.studies.ddpm.record import list_ddpm_settings
    from pipeline.studies.ddpm.samples import read_samples

    out = evaluation_path(ROOT, "ddpm", case, arm, seed)
    folders = Folders(
        run=ROOT / "runs" / name,
        samples=ROOT / "samples" / name,
        extractor=ROOT / "extractors" / case,
        reference=ROOT / "references" / case,
    )
    run, run_compute = read_trained(folders.run / "run.json", DdpmRun)
    samples = read_samples(folders.samples)
    if isinstance(samples, Failure):
        write_record(out, samples.model_copy(update={"settings": list_ddpm_settings(run, run_compute)}))
        return
    device = choose_device(compute)
    train, test = (read_split(ROOT / "data" / "ddpm" / case / f"{name}.safetensors") for name in ("train", "test"))
    extractor = read_extractor(open_case("ddpm", case, "extractor"))
    record = evaluate_ddpm(run, run_compute, samples, folders, train, test, evaluation, extractor, device)
    write_record(out, record)
    write_provenance(f"evaluate/{name}", out, compute, device=device)


if __name__ == "__main__":
    run_stage(main)
