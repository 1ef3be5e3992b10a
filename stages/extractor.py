"""extractor STUDY CASE: the network whose features score samples -> extractors/CASE/.

A classifier is trained here. Inception's weights are found or fetched, and copied, so that later stages work offline.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.compute.device import choose_device
from pipeline.compute.threads import tune_process
from pipeline.data.weights import INCEPTION_CHANNELS, INCEPTION_LOGITS, find_weights
from pipeline.run.process import run_stage, write_provenance
from pipeline.run.work import open_case, parse_arguments
from pipeline.schema.compute import Compute
from pipeline.schema.data import INCEPTION_FEATURES, ClassifierExtractor, InceptionExtractor, load_data_spec
from pipeline.schema.document import write_document
from pipeline.schema.files import digest_file, replace_file
from pipeline.schema.reference import ExtractorFile
from pipeline.schema.resolved import read_extractor

ROOT = Path()


def copy_inception(spec: InceptionExtractor, mirrors: Sequence[str], out: Path) -> ExtractorFile:
    """Copy Inception's verified weights."""
    # A copy, not a hard link: DVC write-protects what it caches, and that would include the user's own file.
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


def train_classifier(spec: ClassifierExtractor, compute: Compute, study: str, case: str, out: Path) -> ExtractorFile:
    """Train the classifier on the training split."""
    tune_process(compute.threads, compute.portable)

    from pipeline.data.arrays import read_split
    from pipeline.metrics.extractor import train_extractor

    device = choose_device(compute)
    train, test = (read_split(ROOT / "data" / study / case / f"{name}.safetensors") for name in ("train", "test"))
    accuracy = train_extractor(spec, train, test, device, out)
    write_provenance(f"extractor/{case}", out, compute, device=device)
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
    study, case = parse_arguments(__doc__, study=str, case=str)
    settings = open_case(study, case, "extractor")
    spec, out = read_extractor(settings), ROOT / "extractors" / case
    if isinstance(spec, InceptionExtractor):
        file = copy_inception(spec, load_data_spec(ROOT).mirrors[spec.file], out)
    else:
        compute = Compute.model_validate(json.loads(settings)["compute"])
        file = train_classifier(spec, compute, study, case, out)
    write_document(out / "extractor.json", file)


if __name__ == "__main__":
    run_stage(main)
