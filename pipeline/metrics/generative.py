"""FID, KID and Inception Score of generated images. The only file that imports torch-fidelity."""

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
_ISC_SEED = 2020  # for the order of images; torch-fidelity's default

Classify = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Images [B, C, H, W] in [0, 1] to features [B, D], logits without their bias and logits, both [B, classes]."""


@dataclass(frozen=True)
class Features:
    """Features and logits of N images; float32, on the CPU."""

    features: Tensor
    """[N, D]."""
    logits_unbiased: Tensor
    """[N, classes], without the bias of the last layer."""
    logits: Tensor
    """[N, classes]."""


Extract = Callable[[NDArray[np.uint8]], Features]
"""Images [N, C, H, W], 0 to 255, to their features and logits."""


@dataclass(frozen=True)
class Statistics:
    """Feature mean and covariance, with the features."""

    features: Tensor
    """[N, D], float32."""
    mean: NDArray[np.float64]
    """[D]."""
    covariance: NDArray[np.float64]
    """[D, D]."""


def register_classifier(name: str, classify: Classify) -> str:
    """Register a function as a feature extractor of torch-fidelity; returns the name.

    torch-fidelity identifies extractors by name, so other weights need another name. A name that is already registered
    keeps its first function.
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
            found = dict(zip(layers, classify(images.float() / 255), strict=True))  # torch-fidelity passes uint8
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
    except (RuntimeError, EOFError, LookupError, AssertionError) as error:  # what torch.load raises on damaged files
        raise ValueError(f"{path}: not readable as weights: {(str(error) or repr(error)).splitlines()[0]}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: not readable as weights: no dictionary of tensors")
    return state


def register_inception(weights: Path, sha256: str) -> str:
    """Register torch-fidelity's Inception with these weights; returns the name, which holds their digest.

    Args:
        sha256: SHA-256 of the file. The caller has verified it.

    Raises:
        ValueError: the file holds anything but tensors, or the weights of another network.
    """
    name = f"{INCEPTION}-{sha256[:12]}"
    if name in FEATURE_EXTRACTORS_REGISTRY:
        return name
    state = _load_tensors(weights)

    class Inception(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            # The base class would run code in a pickle. So it gets tensors that we have pickled ourselves.
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
    """The function of a registered extractor: one pass over images gives all features and logits.

    It does not use torch-fidelity's cache on disk, whose keys ignore the weights.

    Args:
        batch_size: images at a time. It changes features by float32 rounding only.
    """
    layer = FEATURE_EXTRACTORS_REGISTRY[name].get_default_feature_layer_for_metric("fid")
    layers = [layer, "logits_unbiased", "logits"]
    network = create_feature_extractor(name, layers, cuda=device == "cuda", verbose=False)
    if device == "cpu":  # Inception takes a quarter less time; equal up to float32 rounding
        network.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def extract(images: NDArray[np.uint8]) -> Features:
        assert images.dtype == np.uint8 and images.ndim == 4
        batches = torch.from_numpy(images).split(batch_size)
        chunks = [[value.cpu() for value in network(batch.to(device))] for batch in batches]
        return Features(*(torch.cat(values) for values in zip(*chunks, strict=True)))

    return extract


def check_rank(images: int, features: int, whose: str) -> None:
    """Refuse too few images: the covariance of their features would be singular.

    Args:
        whose: the set of images, for the message.

    Raises:
        ValueError: there are no more images than features.
    """
    if images <= features:
        raise ValueError(
            f"{whose}: {images} images cannot tell the covariance of {features} features: at least {features + 1} "
            "are needed"
        )


def measure_statistics(features: Tensor) -> Statistics:
    """Mean and unbiased covariance of features [N, D] in float64.

    Differs: torch-fidelity takes the mean in float32, with a rounding error of about 1e-5 over 50,000 images.
    """
    mean = features.numpy().mean(axis=0, dtype=np.float64)
    return Statistics(features, mean, fid_features_to_statistics(features)["sigma"])


def measure_fid(samples: Statistics, reference: Statistics) -> float:
    """FID: |mu_1 - mu_2|^2 + Tr(Sigma_1 + Sigma_2 - 2 (Sigma_1 Sigma_2)^(1/2)), in float64.

    Source: Heusel et al. 2017.
    """
    a, b = ({"mu": each.mean, "sigma": each.covariance} for each in (samples, reference))
    return float(fid_statistics_to_metric(a, b, verbose=False)[KEY_METRIC_FID])


def measure_inception_score(logits: Tensor, splits: int) -> tuple[float, float]:
    """Inception Score, exp of the mean KL(p(y|x) || p(y)): mean and population standard deviation over splits.

    Source: Salimans et al. 2016, section 4. Images come in a random order with a fixed seed, as in torch-fidelity.
    Differs: the logarithm of the mean is NumPy's. torch's float64 logarithm on a CPU is MKL's; its last bit depends on
    the CPU.

    Args:
        logits: [N, classes].
    """
    order = np.random.RandomState(_ISC_SEED).permutation(len(logits))
    shuffled = logits[order].double()
    # log_softmax, not log(softmax): a probability may underflow to zero.
    p, log_p, scores = shuffled.softmax(1), shuffled.log_softmax(1), []  # p(y|x) [N, classes]
    for index in range(splits):
        part = slice(index * len(logits) // splits, (index + 1) * len(logits) // splits)
        log_mean = torch.from_numpy(np.log(p[part].mean(0).numpy()))  # log p(y) [classes]
        scores.append((p[part] * (log_p[part] - log_mean)).sum(1).mean().exp().item())
    return float(np.mean(scores)), float(np.std(scores))


def measure_scores(samples: Features, reference: Statistics, evaluation: Evaluation) -> Scores:
    """FID, KID (Binkowski et al. 2018) and Inception Score of a sample set.

    Raises:
        ValueError: there are too few images for the covariance, or for a subset of the KID.
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
