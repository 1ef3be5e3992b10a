"""reference STUDY CASE: features and statistics of the training split -> references/CASE/."""

import json
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.run.process import run_stage, write_provenance
from pipeline.run.work import exact_compute, open_case, parse_arguments
from pipeline.schema.compute import Compute

ROOT = Path()


def main() -> None:
    study, case = parse_arguments(__doc__, study=str, case=str)
    content = json.loads(open_case(study, case, "evaluation"))
    images = json.loads(open_case(study, case, "extractor"))["train_images"]
    compute = exact_compute(Compute.model_validate(content["compute"]))
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_split
    from pipeline.metrics.features import load_extractor, write_reference

    device = choose_device(compute)
    extractor = load_extractor(ROOT / "extractors" / case, device, content["evaluation"]["batch_size"])
    train = read_split(ROOT / "data" / study / case / "train.safetensors")
    write_reference(ROOT / "references" / case, train, images, extractor)
    write_provenance(f"reference/{case}", ROOT / "references" / case, compute, device=device)


if __name__ == "__main__":
    run_stage(main)
