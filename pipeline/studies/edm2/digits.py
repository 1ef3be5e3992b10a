"""The images of the ladder: scikit-learn's digits."""

import torch
from torch import Tensor

_TEST_IMAGES = 360


def load_digits(deviation: float) -> tuple[Tensor, Tensor]:
    """Training and test split of the 1,797 digits, [N, 1, 8, 8] float32; the split is the same for all runs.

    Args:
        deviation: standard deviation of all pixels; their mean is 0.
    """
    from sklearn import datasets

    pixels = datasets.load_digits().images  # [1797, 8, 8]
    images = torch.from_numpy(deviation * (pixels - pixels.mean()) / pixels.std()).float()[:, None]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[_TEST_IMAGES:]], images[order[:_TEST_IMAGES]]
