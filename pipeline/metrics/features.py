"""Reads the extractor and the reference of a case from their folders; writes the reference."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.data.arrays import Split, read_arrays, write_arrays
from pipeline.metrics.classifier import FeatureClassifier
from pipeline.metrics.generative import (
    Extract,
    Statistics,
    check_rank,
    measure_statistics,
    open_extractor,
    register_classifier,
    register_inception,
)
from pipeline.run.outputs import load_weights
from pipeline.schema.document import read_document, write_document
from pipeline.schema.files import digest_file
from pipeline.schema.reference import ExtractorFile, ReferenceFile

WEIGHTS = {"classifier": "weights.safetensors", "inception": "weights.pth"}
"""File name of the weights, by kind of extractor."""


@dataclass(frozen=True)
class Extractor:
    """A feature extractor, ready to use."""

    name: str
    """Name in torch-fidelity's registry; it differs for other weights."""
    sha256: str
    """SHA-256 of the weights."""
    features: int
    """Dimension of the features."""
    extract: Extract


def load_extractor(folder: Path, device: str, batch_size: int) -> Extractor:
    """Load the extractor of a folder.

    Args:
        folder: extractors/CASE, with extractor.json and the weights.
        batch_size: images at a time.

    Raises:
        ValueError: a file is missing or damaged, or the weights do not match extractor.json.
    """
    file = read_document(folder / "extractor.json", ExtractorFile)
    weights = folder / WEIGHTS[file.kind]
    if not weights.is_file():
        raise ValueError(f"{weights}: the file is missing")
    found = digest_file(weights)
    if found != file.sha256:
        raise ValueError(f"{weights}: its sha256 is {found}, extractor.json says {file.sha256}")
    if file.kind == "inception":
        name = register_inception(weights, file.sha256)
    else:
        network = FeatureClassifier(file.channels, file.features, file.classes)
        load_weights(weights, network)
        name = register_classifier(f"classifier-{file.sha256[:12]}", network.to(device).eval().classify)
    return Extractor(name, file.sha256, file.features, open_extractor(name, device, batch_size))


def write_reference(folder: Path, train: Split, expected: int, extractor: Extractor) -> None:
    """Write features and statistics of the whole training split to `folder`.

    Args:
        expected: number of training images in specs/data.yaml.

    Raises:
        ValueError: the split has another number of images, or too few for the covariance.
    """
    images = train.images
    if len(images) != expected:
        raise ValueError(f"the training split has {len(images)} images, specs/data.yaml says train_images = {expected}")
    check_rank(len(images), extractor.features, "the training split")
    statistics = measure_statistics(extractor.extract(images).features)
    arrays = {
        "features": statistics.features.numpy(),
        "mean": statistics.mean,
        "covariance": statistics.covariance,
    }
    write_arrays(folder / "reference.safetensors", arrays)
    about = ReferenceFile(
        images=len(images),
        split="train",
        shape=list(images.shape[1:]),
        images_sha256=hashlib.sha256(images.tobytes()).hexdigest(),
        extractor=extractor.name,
        extractor_sha256=extractor.sha256,
        features=extractor.features,
    )
    write_document(folder / "reference.json", about)


def read_reference(folder: Path, extractor: Extractor) -> tuple[ReferenceFile, Statistics]:
    """Read what `write_reference` wrote.

    Raises:
        ValueError: a file is missing or damaged, or the reference was made with another extractor.
    """
    about = read_document(folder / "reference.json", ReferenceFile)
    if about.extractor_sha256 != extractor.sha256:
        raise ValueError(
            f"{folder}/reference.json: made with {about.extractor} (sha256 {about.extractor_sha256}), samples are "
            f"scored by {extractor.name} ({extractor.sha256})"
        )
    path = folder / "reference.safetensors"
    if not path.is_file():
        raise ValueError(f"{path}: the file is missing")
    arrays = read_arrays(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    n, d = about.images, about.features
    if shapes != {"features": (n, d), "mean": (d,), "covariance": (d, d)}:
        raise ValueError(f"{path}: not the arrays of {n} images in {d} features that reference.json speaks of")
    return about, Statistics(torch.from_numpy(arrays["features"]), arrays["mean"], arrays["covariance"])
