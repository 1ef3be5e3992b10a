"""specs/data.yaml: the datasets, their sources and splits, and the extractors whose features score samples."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from pipeline.schema.base import MAX_WIDTH, SpecError, Strict, read_yaml, validate

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _check_mirror(mirror: str) -> str:
    if not mirror.isprintable():
        raise ValueError("a character that cannot be printed")
    if "://" not in mirror:
        return mirror
    parts = urlsplit(mirror)
    _ = parts.port  # raises ValueError for a bad port
    allowed = {"https": parts.hostname, "http": parts.hostname, "file": parts.netloc in ("", "localhost")}
    if not allowed.get(parts.scheme) or (parts.scheme != "file" and " " in mirror):
        raise ValueError("allowed are https://HOST/..., http://HOST/..., file:///..., or the path of a file or folder")
    return mirror


Mirror = Annotated[str, Field(min_length=1), AfterValidator(_check_mirror)]
"""URL of a file, or of a folder (ends in /); or path of a file or folder, relative to the project."""


class DigitsSource(Strict):
    """The handwritten digits that come with scikit-learn; offline."""

    kind: Literal["digits"]
    sha256: Sha256 = Field(description="SHA-256 of the pixels (1797 x 64), then the labels, one byte each")
    test_fraction: float = Field(gt=0, lt=1, description="share of the stratified test split")
    split_seed: int = Field(ge=0, lt=2**32, description="seed of the split")


class RemoteFile(Strict):
    """A file to download. Its SHA-256 identifies it, whatever mirror it comes from."""

    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="file name in downloads/")
    size: int = Field(ge=1, description="size in bytes")
    sha256: Sha256 = Field(description="SHA-256, verified before every use")


class CifarSource(RemoteFile):
    """CIFAR's binary version from its publisher, a tar.gz archive, with its own split."""

    kind: Literal["cifar"]


class OwnSource(Strict):
    """The user's own images. The stage `fetch` compares their classes and numbers with the dataset's fields."""

    path: str = Field(min_length=1, description="path, relative to the project or absolute")
    sha256: Sha256 | None = Field(default=None, description="SHA-256 of the content; null: the fetch tells it")
    test_fraction: float | None = Field(
        default=None, gt=0, lt=1, description="share of the stratified test split; null: the source has its own split"
    )
    split_seed: int | None = Field(default=None, ge=0, lt=2**32, description="seed of the split")

    @model_validator(mode="after")
    def _check_split(self) -> Self:
        if (self.test_fraction is None) != (self.split_seed is None):
            raise ValueError("test_fraction and split_seed: give both, or neither if the source has its own split")
        return self


class FolderSource(OwnSource):
    """A folder with one sub-folder of image files per class. Without `test_fraction`: train/ and test/ in that form."""

    kind: Literal["folder"]
    size: int = Field(ge=1, le=4096, description="side in pixels to which images are cropped and resized")


class NpzSource(OwnSource):
    """A NumPy archive with the arrays `images` and `labels`.

    Without `test_fraction`: `train_images`, `train_labels`, `test_images` and `test_labels`. Images are uint8,
    [N, H, H] or [N, H, H, C]; labels are integers from 0.
    """

    kind: Literal["npz"]


class ClassifierExtractor(Strict):
    """A small classifier, trained on the dataset. Its penultimate layer gives the features."""

    kind: Literal["classifier"]
    features: int = Field(ge=2, le=MAX_WIDTH, description="dimension of the features")
    epochs: int = Field(ge=1, description="passes over the training split")
    batch_size: int = Field(ge=2, description="images per step")
    learning_rate: float = Field(gt=0, description="learning rate of Adam")
    seed: int = Field(ge=0, lt=2**31, description="seed of initialisation and data order")


DatasetName = Annotated[str, Field(pattern=r"^(?:[a-z][a-z0-9-]*)$", max_length=50)]
"""Name of a dataset. It is part of paths and of shell commands in dvc.yaml, and a key of params.yaml."""
INCEPTION_FEATURES = 2048
"""Dimension of Inception's features (its last pooling layer)."""


class InceptionExtractor(RemoteFile):
    """torch-fidelity's Inception, with the weights of the original FID."""

    kind: Literal["inception"]
    path: str | None = Field(min_length=1, description="path of the weights; null: they are fetched")


Source = DigitsSource | CifarSource | FolderSource | NpzSource
_DIGITS = 1797
"""Number of scikit-learn's digits."""
_CIFAR = (50_000, 10_000)
"""Numbers of CIFAR's training and test images."""


def _count_digits(source: DigitsSource) -> tuple[int, int]:
    """Number of images of the training and the test split."""
    test = math.ceil(_DIGITS * source.test_fraction)
    if min(_DIGITS - test, test) < 10:
        raise ValueError(f"source.test_fraction = {source.test_fraction}: a split without every class")
    return _DIGITS - test, test


def _list_facts(source: Source) -> dict[str, tuple[int, ...]]:
    """Allowed values of a dataset's fields, as far as its source determines them."""
    if isinstance(source, DigitsSource):
        train, test = _count_digits(source)
        return {"channels": (1,), "classes": (10,), "train_images": (train,), "test_images": (test,)}
    if isinstance(source, CifarSource):
        train, test = _CIFAR
        return {"channels": (3,), "classes": (10, 100), "train_images": (train,), "test_images": (test,)}
    # The stage `fetch` compares the rest with the images.
    return {"channels": (1, 3)} if isinstance(source, FolderSource) else {}


class Dataset(Strict):
    """A dataset of specs/data.yaml."""

    title: str = Field(min_length=1, description="name in tables")
    scale: Literal["embedded", "paper"] = Field(description="embedded: small default, not comparable with any paper")
    channels: int = Field(ge=1, le=1024, description="channels of an image")
    classes: int = Field(ge=2, le=1_000_000, description="number of classes")
    train_images: int = Field(ge=1, description="images of the training split; plans use it before the fetch")
    test_images: int = Field(ge=1, description="images of the test split; likewise")
    source: Source = Field(discriminator="kind")
    extractor: ClassifierExtractor | InceptionExtractor = Field(discriminator="kind")

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse fields that contradict the source; later stages, such as trainings, would fail."""
        for key, allowed in _list_facts(self.source).items():
            if (value := getattr(self, key)) not in allowed:
                text = " or ".join(map(str, allowed))
                raise ValueError(f"{key} = {value}: images of source.kind = {self.source.kind!r} have {text}")
        if isinstance(self.extractor, InceptionExtractor) and self.channels != 3:
            raise ValueError(f"extractor.kind = 'inception' takes images of 3 channels, these have {self.channels}")
        return self


class DataSpec(Strict):
    """specs/data.yaml.

    Mirrors are listed beside the datasets, not in them. They are in no resolved file, so editing them makes no data
    stale.
    """

    mirrors: dict[str, Annotated[list[Mirror], Field(min_length=1)]] = Field(
        description="mirrors of each file, tried in this order"
    )
    datasets: dict[DatasetName, Dataset]

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        parts = [part for dataset in self.datasets.values() for part in (dataset.source, dataset.extractor)]
        files = {part.file for part in parts if isinstance(part, RemoteFile)}
        for file in sorted(files - self.mirrors.keys()):
            raise ValueError(f"mirrors: {file!r} is not there, and a dataset needs it")
        for file in sorted(self.mirrors.keys() - files):
            raise ValueError(f"mirrors: no dataset needs {file!r}; needed: {', '.join(sorted(files)) or 'none'}")
        return self


def load_data_spec(root: Path) -> DataSpec:
    """Read and validate specs/data.yaml."""
    return validate(DataSpec, read_yaml(root / "specs" / "data.yaml", "specs/data.yaml"), "specs/data.yaml")


def find_dataset(spec: DataSpec, name: str) -> Dataset:
    """The dataset of that name.

    Raises:
        SpecError: there is none; the message lists the known ones.
    """
    if name not in spec.datasets:
        raise SpecError(f"specs/data.yaml: datasets: {name!r} is not there; known: {', '.join(spec.datasets)}")
    return spec.datasets[name]
