"""Datasets: where they come from, how they are split, and the features in which their samples are judged."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.schema.base import SpecError, Strict, read_yaml, validate

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Url = Annotated[str, Field(pattern=r"^(https?|file)://\S+$")]


class DigitsSource(Strict):
    """scikit-learn's bundled handwritten digits; offline."""

    kind: Literal["digits"]
    sha256: Sha256 = Field(description="of the pixels (1797 x 64) and then the labels, one byte each")
    test_fraction: float = Field(gt=0, lt=1, description="share of the stratified test split")
    split_seed: int = Field(ge=0, lt=2**32, description="of the split")


class CifarSource(Strict):
    """CIFAR in its publisher's binary version, downloaded by torchvision's code; its own split."""

    kind: Literal["cifar"]
    url: Url = Field(description="of the tar.gz archive")
    md5: Md5 = Field(description="of the archive, as published")


class ClassifierExtractor(Strict):
    """A small classifier trained on the dataset; its penultimate layer gives the features."""

    kind: Literal["classifier"]
    features: int = Field(ge=2, description="dimension of the features")
    epochs: int = Field(ge=1, description="passes over the training split")
    batch_size: int = Field(ge=2, description="images a step")
    learning_rate: float = Field(gt=0, description="of Adam")
    seed: int = Field(ge=0, lt=2**31, description="of its initialisation and data order")


INCEPTION_FEATURES = 2048
"""Dimension of Inception's features (its last pooling layer)."""


class InceptionExtractor(Strict):
    """torch-fidelity's own Inception with the weights of the original FID."""

    kind: Literal["inception"]
    url: Url = Field(description="of the weights")
    sha256: Sha256 = Field(description="of the weights; verified whether they are fetched or found")
    path: str | None = Field(min_length=1, description="where the weights are; null: they are fetched from url")


class Dataset(Strict):
    """One dataset of specs/data.yaml."""

    title: str = Field(min_length=1, description="as the tables call it")
    scale: Literal["embedded", "paper"] = Field(description="embedded: the small default, comparable with no paper")
    channels: int = Field(ge=1, description="of an image")
    classes: int = Field(ge=2, description="number of labels")
    train_images: int = Field(ge=1, description="of the training split; what the plan reckons with before the fetch")
    test_images: int = Field(ge=1, description="of the test split; likewise")
    source: DigitsSource | CifarSource = Field(discriminator="kind")
    extractor: ClassifierExtractor | InceptionExtractor = Field(discriminator="kind")


class DataSpec(Strict):
    """specs/data.yaml."""

    datasets: dict[str, Dataset]


def load_data_spec(root: Path) -> DataSpec:
    """Read and validate specs/data.yaml."""
    return validate(DataSpec, read_yaml(root / "specs" / "data.yaml"), "specs/data.yaml")


def find_dataset(spec: DataSpec, name: str) -> Dataset:
    """The dataset of that name, or a SpecError that lists the known ones."""
    if name not in spec.datasets:
        raise SpecError(f"specs/data.yaml: datasets: {name!r} is not there; known: {', '.join(spec.datasets)}")
    return spec.datasets[name]
