"""FID, KID and Inception Score. torch-fidelity is named here only."""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_fidelity
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.utils import create_feature_extractor

from pipeline.schema.scores import Evaluation, Scores

INCEPTION = "inception-v3-compat"
_ISC_SEED = 2020  # of the order of images, torch-fidelity's default

Judge = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Images [B, C, H, W] in [0, 1] to features [B, D], logits without their bias and logits, both [B, classes]."""


@dataclass(frozen=True)
class Features:
    """What an extractor makes of N images; float32, on the CPU."""

    features: Tensor
    """[N, D]."""
    logits_unbiased: Tensor
    """[N, classes], without the bias of the last layer."""
    logits: Tensor
    """[N, classes]."""


Extract = Callable[[NDArray[np.uint8]], Features]
"""Images [N, C, H, W], 0 to 255, to what an extractor makes of them."""


@dataclass(frozen=True)
class Statistics:
    """Of the features of images."""

    features: Tensor
    """[N, D], float32."""
    mean: NDArray[np.float64]
    """[D]."""
    covariance: NDArray[np.float64]
    """[D, D]."""


def register_classifier(name: str, judge: Judge) -> str:
    """Make a function known to torch-fidelity as a feature extractor; returns the name.

    The name must tell the weights apart, because torch-fidelity knows extractors by name; a name that is known keeps
    its first function.
    """
    layers = ("features", "logits_unbiased", "logits")

    class Classifier(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return layers

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits_unbiased" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            found = dict(zip(layers, judge(images.float() / 255), strict=True))
            return tuple(found[layer] for layer in self.features_list)

    if name not in FEATURE_EXTRACTORS_REGISTRY:
        torch_fidelity.register_feature_extractor(name, Classifier)
    return name


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path}: not readable as weights: not a pickle of tensors alone; no code in it was run"
        ) from None
    except (RuntimeError, EOFError, LookupError, AssertionError) as error:  # a damaged file fails in many ways
        raise ValueError(f"{path}: not readable as weights: {(str(error) or repr(error)).splitlines()[0]}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: not readable as weights: no dictionary of tensors")
    return state


def register_inception(weights: Path, sha256: str) -> str:
    """Make torch-fidelity's Inception with these weights known under a name that tells them apart; returns the name.

    Args:
        sha256: of the file; to verify it is the caller's business.

    Raises:
        ValueError: the file holds anything but tensors, or those of another network.
    """
    name = f"{INCEPTION}-{sha256[:12]}"
    if name in FEATURE_EXTRACTORS_REGISTRY:
        return name
    state = _load_tensors(weights)

    class Inception(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            # The base class unpickles whatever it is given, code included. So it is given tensors that we pickled.
            own = io.BytesIO()
            torch.save(state, own)
            own.seek(0)
            try:
                super().__init__(name, features_list, feature_extractor_weights_path=own)
            except RuntimeError as error:
                problem = str(error).splitlines()[0]
                raise ValueError(f"{weights}: not the weights of {INCEPTION}: {problem}") from None

    torch_fidelity.register_feature_extractor(name, Inception)
    return name


def open_extractor(name: str, device: str, batch_size: int) -> Extract:
    """The function of a registered extractor: one pass over images in memory gives all that the metrics need.

    No file is read or written: torch-fidelity's own cache has keys that ignore the weights.

    Args:
        batch_size: images at a time; it changes features by float32's rounding only.
    """
    layer = FEATURE_EXTRACTORS_REGISTRY[name].get_default_feature_layer_for_metric("fid")
    layers = [layer, "logits_unbiased", "logits"]
    network = create_feature_extractor(name, layers, cuda=device == "cuda", verbose=False)
    if device == "cpu":  # Inception takes three quarters of the time, the same but for float32's rounding
        network.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def extract(images: NDArray[np.uint8]) -> Features:
        assert images.dtype == np.uint8 and images.ndim == 4
        batches = torch.from_numpy(images).split(batch_size)
        chunks = [[value.cpu() for value in network(batch.to(device))] for batch in batches]
        return Features(*(torch.cat(values) for values in zip(*chunks, strict=True)))

    return extract


def check_rank(images: int, features: int, whose: str) -> None:
    """Refuse so few images that the covariance of their features is singular.

    Raises:
        ValueError: not more images than features.
    """
    if images <= features:
        raise ValueError(
            f"{whose}: {images} images cannot tell the covariance of {features} features: at least {features + 1} "
            "are needed"
        )


def measure_statistics(features: Tensor) -> Statistics:
    """Mean and unbiased covariance of features [N, D] in float64.

    Differs: torch-fidelity takes the mean in float32, whose rounding over 50,000 images is 1e-5 of a feature.
    """
    mean = features.numpy().mean(axis=0, dtype=np.float64)
    return Statistics(features, mean, fid_features_to_statistics(features)["sigma"])


def measure_fid(samples: Statistics, reference: Statistics) -> float:
    """Frechet distance of two Gaussians, in float64."""
    a, b = ({"mu": each.mean, "sigma": each.covariance} for each in (samples, reference))
    return float(fid_statistics_to_metric(a, b, verbose=False)[KEY_METRIC_FID])


def measure_inception_score(logits: Tensor, splits: int) -> tuple[float, float]:
    """Mean and population standard deviation over splits of the images in a random, fixed order.

    Differs: the logarithm of the mean is NumPy's. torch-fidelity takes torch's, in float64 on a CPU that of MKL, whose
    last bit is the CPU's own.
    """
    order = np.random.RandomState(_ISC_SEED).permutation(len(logits))
    shuffled = logits[order].double()
    p, log_p, scores = shuffled.softmax(1), shuffled.log_softmax(1), []
    for index in range(splits):
        part = slice(index * len(logits) // splits, (index + 1) * len(logits) // splits)
        log_mean = torch.from_numpy(np.log(p[part].mean(0).numpy()))
        scores.append((p[part] * (log_p[part] - log_mean)).sum(1).mean().exp().item())
    return float(np.mean(scores)), float(np.std(scores))


def measure_scores(samples: Features, reference: Statistics, evaluation: Evaluation) -> Scores:
    """Every score of a sample set.

    Raises:
        ValueError: too few images for the covariance, or for a subset of the KID.
    """
    check_rank(len(samples.features), samples.features.shape[1], "a sample set")
    fewest = min(len(samples.features), len(reference.features))
    if fewest < evaluation.kid_subset_size:
        raise ValueError(f"kid_subset_size = {evaluation.kid_subset_size}: one of the sides has {fewest} images only")
    kid = kid_features_to_metric(
        samples.features,
        reference.features,
        kid_subsets=evaluation.kid_subsets,
        kid_subset_size=evaluation.kid_subset_size,
        verbose=False,
    )
    split, split_std = measure_inception_score(samples.logits_unbiased, evaluation.isc_splits)
    biased_split, biased_split_std = measure_inception_score(samples.logits, evaluation.isc_splits)
    return Scores(
        fid=measure_fid(measure_statistics(samples.features), reference),
        kid=float(kid[KEY_METRIC_KID_MEAN]),
        inception_score=measure_inception_score(samples.logits_unbiased, 1)[0],
        inception_score_split=split,
        inception_score_split_std=split_std,
        inception_score_biased=measure_inception_score(samples.logits, 1)[0],
        inception_score_biased_split=biased_split,
        inception_score_biased_split_std=biased_split_std,
    )
