"""What the output F of a diffusion model's network stands for: its input, its training target, the noise it predicts.

All are of one family, x0 = A x_t + B F (`parametrisation.py`). A sampler or a score needs the predicted noise alone:
sigma (x_t + alpha f), with f = C x_t + D F.
"""

from dataclasses import dataclass

from torch import Tensor

from pipeline.diffusion.edm import DATA_SIGMA
from pipeline.diffusion.loss import Denoiser, noise_loss
from pipeline.diffusion.parametrisation import PARAMETRISATIONS, Coefficients
from pipeline.diffusion.path import GaussianPath, Schedule, add_noise
from pipeline.diffusion.schedule import take_root
from pipeline.schema.diffusion import OutputKind

_SCALED = ("edm", "edm_full")
"""Outputs of a network whose input has variance 1 (c_in)."""
_LARGE = ("edm_full", "full")
"""Outputs that grow as 1 / sigma; their squared error is weighed with sigma^2."""


def _multiply(factor: Tensor, x: Tensor) -> Tensor:
    """x [B, ...] times a factor [B], or [], which may be on the CPU while x is on a GPU."""
    factor = factor.to(x.dtype)
    return (factor.view(-1, *[1] * (x.ndim - 1)) if factor.ndim else factor) * x


@dataclass(frozen=True)
class Output:
    """One member of the family, on variance-preserving paths at times [B] or [] with 0 < sigma < 1.

    Its methods take x_t, x0 and noise [B, ...]. `noise` is DDPM's: the network's input and output as they are.
    """

    kind: OutputKind = "noise"
    data_sigma: float = DATA_SIGMA
    """Standard deviation of the data for which EDM's coefficients are made."""

    def _find(self, path: GaussianPath) -> Coefficients:
        return PARAMETRISATIONS[self.kind](path, self.data_sigma)

    def scale_input(self, path: GaussianPath, x: Tensor) -> Tensor:
        """What the network sees of x_t: of EDM's outputs x_t over its standard deviation, of the others x_t.

        Differs: the network is told the level as it is, of which EDM's c_noise = ln(sigma / alpha) / 4 is a function.
        """
        if self.kind not in _SCALED:
            return x
        return _multiply(1 / take_root(path.sigma**2 + (self.data_sigma * path.alpha) ** 2), x)

    def predict_noise(self, path: GaussianPath, x: Tensor, output: Tensor) -> Tensor:
        """The noise in x_t that an output means."""
        if self.kind == "noise":
            return output
        parts = self._find(path)
        of_x, of_output = 1 + path.alpha * parts.f_of_x, path.alpha * parts.f_of_output
        return _multiply(path.sigma * of_x, x) + _multiply(path.sigma * of_output, output)

    def find_target(self, path: GaussianPath, x0: Tensor, noise: Tensor) -> Tensor:
        """The output that means x0 and the noise: (x0 - A x_t) / B, with x_t written in both."""
        if self.kind == "noise":
            return noise
        parts = self._find(path)
        of_x0 = (1 - path.alpha * parts.of_x) / parts.of_output
        return _multiply(of_x0, x0) - _multiply(path.sigma * parts.of_x / parts.of_output, noise)

    def measure_loss(self, network: Denoiser, schedule: Schedule, x: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error of the output over batch and pixels; of outputs that grow as 1 / sigma, sigma^2 times it.

        So `full` has v's loss and `edm_full` EDM's, whose weight of the x0-prediction is 1 / c_out^2.

        Args:
            network: (input, level) -> output.
            schedule: on the device of x.
            x: images [B, C, H, W] in [-1, 1].
            level: [B], int64, uniform over the levels.
            noise: standard normal, in the shape of x.
        """
        if self.kind == "noise":
            return noise_loss(network, schedule, x, level, noise)
        path = schedule(level)
        output = network(self.scale_input(path, add_noise(path, x, noise)), level.float()).float()
        error = output - self.find_target(path, x, noise)
        return (_multiply(path.sigma, error) if self.kind in _LARGE else error).square().mean()


NOISE = Output()
"""DDPM's."""
