"""The negative ELBO of a variance-preserving diffusion on the closed interval, without truncation.

By parts, the terms of log sigma that diverge at t = 0 cancel against the reconstruction's, in closed form:

    NELBO(x0) = -log N(x0; 0, I) + E_{t ~ U(0, 1)} E_noise [ d sigma/dt (sigma |f|^2 - 2 v f) ]

for sigma(0) = 0 and alpha(1) = 0, with v = alpha noise - sigma x0. Its gradient is that of the raw form with the weight
1 / sigma on |v - sigma f|^2. Derived here.
"""

import math

from torch import Tensor

from pipeline.diffusion.path import GaussianPath


def weigh_bound(path: GaussianPath, f: Tensor, v: Tensor) -> Tensor:
    """The bracket, an element each; the path, f and v of shapes that broadcast."""
    return path.d_sigma * (path.sigma * f**2 - 2 * v * f)


def measure_prior(x0: Tensor) -> Tensor:
    """-log N(x0; 0, 1) in nats, an element each."""
    return (x0**2 + math.log(2 * math.pi)) / 2
