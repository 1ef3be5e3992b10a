"""Handwritten digits in place of the mixture: zeros with a weight of 0.8, ones with the rest.

The U-turn needs no network: the posterior of a finite set of images is known, so the probability to come back to a
class is the mean of that class's posterior weight over noisy images of it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.compute.seeding import make_generator
from pipeline.studies.phases.density import Density, Turns, dilate_time, tabulate_turns
from pipeline.studies.phases.network import count_weight, make_network, sample_network, train_network
from pipeline.studies.phases.study import DigitsRun, PhasesRecord

Array = NDArray[np.float64]
_TURNED, _PARTS = 1000, 60
"""Noisy images of the table of U-turns, and its parts."""


@dataclass(frozen=True)
class Classes:
    """Two classes of images; the heavy one has a weight of its own, its images share it alike."""

    pixels: Array
    """[N, d], of mean 0 and variance 1 over the pixels of what is drawn."""
    heavy: NDArray[np.bool_]
    """[N]."""
    weight: float

    @property
    def shares(self) -> Array:
        """Probability of each image, [N]."""
        return share_out(self.heavy, self.weight)

    @property
    def spread(self) -> float:
        """Root mean square distance from a class's mean, in each pixel."""
        apart = [self.pixels[side] - self.pixels[side].mean(0) for side in (self.heavy, ~self.heavy)]
        variances = [float((values**2).mean()) for values in apart]
        return float(np.sqrt(self.weight * variances[0] + (1 - self.weight) * variances[1]))

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """Images [B, d], float32."""
        at = torch.rand(batch, generator=generator, dtype=torch.float64).numpy()
        index = np.minimum(np.searchsorted(np.cumsum(self.shares), at), len(self.shares) - 1)
        return torch.from_numpy(self.pixels[index]).float()

    def weigh_heavy(self, u: float, x: Array) -> Array:
        """P(heavy | x_u) [B] of x_u [B, d], u < 1: the exact posterior."""
        log_p = u * (x @ self.pixels.T - u * (self.pixels**2).sum(1) / 2) / (1 - u) ** 2 + np.log(self.shares)
        p = np.exp(log_p - log_p.max(1, keepdims=True))
        return np.asarray(p[:, self.heavy].sum(1) / p.sum(1))

    def recognise(self, x: Array) -> NDArray[np.bool_]:
        """Whether images [B, d] are of the heavy class: their nearest neighbour is."""
        return np.asarray(self.heavy[(x @ self.pixels.T - (self.pixels**2).sum(1) / 2).argmax(1)])


def share_out(heavy: NDArray[np.bool_], weight: float) -> Array:
    """Shares [N] that sum to `weight` where heavy, and to the rest elsewhere."""
    return np.asarray(np.where(heavy, weight / heavy.sum(), (1 - weight) / (~heavy).sum()))


def load_classes(weight: float) -> Classes:
    """Zeros and ones of scikit-learn's digits: 360 images of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = digits.target < 2
    pixels, heavy = digits.data[chosen], digits.target[chosen] == 0
    shares = share_out(heavy, weight)
    pixels = pixels - (shares @ pixels).mean()
    return Classes(pixels / np.sqrt((shares @ pixels**2).mean()), heavy, weight)


def find_turns(classes: Classes) -> Turns:
    """The table of U-turns from the heavy class, by the posterior over the images; the same in all runs."""
    generator = torch.Generator().manual_seed(0)
    images = classes.pixels[classes.heavy]
    x0 = images[torch.randint(len(images), (_TURNED,), generator=generator).numpy()]
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64).numpy()

    def find_return(u: float) -> float:
        return 1.0 if u == 1 else float(classes.weigh_heavy(u, u * x0 + (1 - u) * noise).mean())

    u, share = tabulate_turns(find_return, _PARTS)
    return u, np.maximum.accumulate(share)  # it is a mean over few images


def measure_digits(run: DigitsRun) -> PhasesRecord:
    """Train on times of a density, then sample and recognise.

    Raises:
        MeasureError: the loss is not finite.
    """
    classes, denoiser = load_classes(run.images.heavy), run.denoiser
    dimension = classes.pixels.shape[1]
    dilation = dilate_time(run.images.k, dimension)
    density = Density(denoiser.density, dilation, lambda: find_turns(classes))
    network = make_network(denoiser, dimension, classes.spread, run.seed)
    train_network(network, density, classes.draw, run.training, run.seed)
    ends = sample_network(network, dilation, denoiser.grid, denoiser.drawn, make_generator("cpu", run.seed, "samples"))
    return count_weight(torch.from_numpy(classes.recognise(ends.double().numpy())), classes.weight)
