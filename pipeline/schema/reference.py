"""The features in which samples are judged, and those of the training split."""

from typing import Literal

from pydantic import Field

from pipeline.schema.base import Strict
from pipeline.schema.data import Sha256


class ExtractorFile(Strict):
    """extractors/DATASET/extractor.json: the network whose weights are beside it."""

    kind: Literal["classifier", "inception"]
    sha256: Sha256 = Field(description="of the file with the weights")
    features: int = Field(ge=1, description="dimension of the features")
    channels: int = Field(ge=1, description="of an image")
    classes: int = Field(ge=2, description="number of logits")
    test_accuracy: float | None = Field(description="%, of a classifier trained here; null of Inception")


class ReferenceFile(Strict):
    """references/DATASET/reference.json: whose features and statistics are beside it."""

    images: int = Field(ge=2, description="all of the split, unflipped")
    split: Literal["train"]
    shape: list[int] = Field(min_length=3, max_length=3, description="of an image: channels, height, width")
    images_sha256: Sha256 = Field(description="of the pixels, one byte each")
    extractor: str = Field(min_length=1, description="what gave the features")
    extractor_sha256: Sha256 = Field(description="of its weights")
    features: int = Field(ge=1, description="their dimension")
