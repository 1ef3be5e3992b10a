"""FID and Inception Score. torch-fidelity is named here only."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_fidelity
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

INCEPTION = "inception-v3-compat"

Extract = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images [B, C, H, W] in [0, 1] to features [B, D] and logits [B, classes]."""


@dataclass(frozen=True)
class Scores:
    """Of samples against reference images."""

    fid: float
    inception_score: float
    inception_score_std: float


class _Images(Dataset[Tensor]):
    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def register_extractor(name: str, extract: Extract) -> str:
    """Make a function known to torch-fidelity as a feature extractor; returns the name.

    FID is taken in its features, IS from its logits. The name must tell the weights apart, because torch-fidelity
    knows extractors by name; a name that is known keeps its first function.
    """
    layers = ("features", "logits")

    class Registered(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return layers

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            found = dict(zip(layers, extract(images.float() / 255), strict=True))
            return tuple(found[layer] for layer in self.features_list)

    if name not in FEATURE_EXTRACTORS_REGISTRY:
        torch_fidelity.register_feature_extractor(name, Registered)
    return name


def score_images(
    samples: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    extractor: str,
    isc_splits: int,
    device: str,
    weights: Path | None = None,
    batch_size: int = 256,
) -> Scores:
    """FID between samples and reference, both [N, C, H, W], and the Inception Score of the samples.

    Nothing is read from or written to torch-fidelity's own cache, whose keys ignore the weights.

    Args:
        extractor: a registered name, or INCEPTION.
        weights: of INCEPTION; their checksum is the caller's business.
    """
    found = torch_fidelity.calculate_metrics(
        input1=_Images(samples),
        input2=_Images(reference),
        fid=True,
        isc=True,
        feature_extractor=extractor,
        feature_extractor_weights_path=str(weights) if weights else None,
        isc_splits=isc_splits,
        batch_size=batch_size,
        cuda=device == "cuda",
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    return Scores(
        float(found["frechet_inception_distance"]),
        float(found["inception_score_mean"]),
        float(found["inception_score_std"]),
    )
