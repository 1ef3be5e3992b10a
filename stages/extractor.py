"""extractor DATASET: the network in whose features samples are judged -> extractors/DATASET/.

A classifier is trained here; Inception's weights are found or fetched and copied, so that all else works offline.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.data.weights import INCEPTION_CHANNELS, INCEPTION_LOGITS, find_weights
from pipeline.run.inputs import digest_file, read_inputs
from pipeline.run.process import run_stage, write_provenance
from pipeline.schema.compute import load_compute
from pipeline.schema.data import (
    INCEPTION_FEATURES,
    ClassifierExtractor,
    InceptionExtractor,
    find_dataset,
    load_data_spec,
)
from pipeline.schema.document import write_document
from pipeline.schema.files import replace_file
from pipeline.schema.reference import ExtractorFile

ROOT = Path()


def copy_inception(spec: InceptionExtractor, mirrors: Sequence[str], out: Path) -> ExtractorFile:
    """Copy Inception's verified weights."""
    # No hard link: DVC write-protects what it caches, and would the user's own file with it.
    with replace_file(out / "weights.pth") as partial:
        shutil.copyfile(find_weights(spec, mirrors, ROOT), partial)
    return ExtractorFile(
        kind="inception",
        sha256=spec.sha256,
        features=INCEPTION_FEATURES,
        channels=INCEPTION_CHANNELS,
        classes=INCEPTION_LOGITS,
        test_accuracy=None,
    )


def train_classifier(spec: ClassifierExtractor, dataset: str, out: Path) -> ExtractorFile:
    """Train the classifier on the training split."""
    compute = read_inputs(lambda: load_compute(ROOT))
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_split
    from pipeline.metrics.extractor import train_extractor

    device = choose_device(compute)
    train, test = (read_split(ROOT / "data" / "ddpm" / dataset / f"{name}.safetensors") for name in ("train", "test"))
    accuracy = train_extractor(spec, train, test, device, out)
    write_provenance(f"extractor/{dataset}", ROOT / "extractors" / dataset, compute, device=device)
    print(f"feature classifier: {accuracy:.2f} % on the test split")
    return ExtractorFile(
        kind="classifier",
        sha256=digest_file(out / "weights.safetensors"),
        features=spec.features,
        channels=train.images.shape[1],
        classes=train.classes,
        test_accuracy=accuracy,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    data = load_data_spec(ROOT)
    spec = read_inputs(lambda: find_dataset(load_data_spec(ROOT), dataset).extractor)
    out = ROOT / "extractors" / dataset
    if isinstance(spec, InceptionExtractor):
        file = copy_inception(spec, data.mirrors[spec.file], out)
    else:
        file = train_classifier(spec, dataset, out)
    write_document(out / "extractor.json", file)


if __name__ == "__main__":
    run_stage(main)
