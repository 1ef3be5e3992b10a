"""Files that describe a case's feature extractor, and the reference features of its training split."""

from typing import Literal

from pydantic import Field

from pipeline.schema.base import Strict
from pipeline.schema.data import Sha256


class ExtractorFile(Strict):
    """extractors/CASE/extractor.json, which describes the weights beside it."""

    kind: Literal["classifier", "inception"]
    sha256: Sha256 = Field(description="SHA-256 of the weights' file")
    features: int = Field(ge=1, description="dimension of the features")
    channels: int = Field(ge=1, description="channels of an image")
    classes: int = Field(ge=2, description="number of logits")
    test_accuracy: float | None = Field(description="test accuracy of the classifier in %; null for Inception")


class ReferenceFile(Strict):
    """references/CASE/reference.json, which describes the features and statistics beside it."""

    images: int = Field(ge=2, description="number of images: the whole split, unflipped")
    split: Literal["train"]
    shape: list[int] = Field(min_length=3, max_length=3, description="shape of an image: channels, height, width")
    images_sha256: Sha256 = Field(description="SHA-256 of the pixels, one byte each")
    extractor: str = Field(min_length=1, description="name of the extractor that gave the features")
    extractor_sha256: Sha256 = Field(description="SHA-256 of the extractor's weights")
    features: int = Field(ge=1, description="dimension of the features")
