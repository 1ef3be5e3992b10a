"""The negative ELBO of the exact optimum, estimated and by quadrature, and its gradients by what a network predicts."""

import math

import numpy as np
import torch
from torch import Tensor

from pipeline.compute.seeding import make_generator
from pipeline.diffusion.bound import measure_prior, weigh_bound
from pipeline.diffusion.circle import noise_path
from pipeline.diffusion.parametrisation import PARAMETRISATIONS
from pipeline.diffusion.path import add_noise
from pipeline.studies.full.line import Line
from pipeline.studies.full.path import find_schedule
from pipeline.studies.full.study import BoundRun, FullRecord

_SIGMAS = (1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 0.6, 0.9, 0.99, 0.999, 0.9999)
"""At which gradients and outputs are listed."""


def draw_bounds(run: BoundRun) -> Tensor:
    """Draws [size] of the negative ELBO of the exact f, in nats."""
    line, size, cut = Line(run.target), run.estimate.size, run.estimate.cut
    generators = [make_generator("cpu", run.seed, purpose) for purpose in ("data", "time", "noise")]
    x0 = line.draw(size, generators[0])
    t = torch.rand(size, dtype=torch.float64, generator=generators[1])
    noise = torch.randn(size, dtype=torch.float64, generator=generators[2])
    path = find_schedule(run.path.schedule)(t if run.estimate.form == "closed" else cut + (1 - cut) * t)
    x, v = add_noise(path, x0, noise), path.alpha * noise - path.sigma * x0
    f = torch.from_numpy(line.predict_f(path.alpha.numpy(), path.sigma.numpy(), x.numpy()))
    if run.estimate.form == "closed":
        return measure_prior(x0) + weigh_bound(path, f, v)
    return _code_end(cut) + (1 - cut) * (v - path.sigma * f) ** 2 / path.sigma


def _code_end(sigma: float) -> float:
    """Nats to code the data from x_sigma / alpha with the noise that is in it."""
    return math.log(2 * math.pi * math.e * sigma**2 / (1 - sigma**2)) / 2


def integrate_raw(line: Line, cut: float) -> float:
    """What the raw form estimates: the integral over sigma from `cut` to 1, in log sigma."""
    u = np.linspace(math.log(cut), 0.0, 4001)
    values = np.array([line.find_error(math.sqrt(1 - s**2), s) for s in np.exp(u[:-1]).tolist()] + [line.variance])
    return _code_end(cut) + float(((values[1:] + values[:-1]) / 2 * np.diff(u)).sum())


def list_gradients(run: BoundRun) -> list[float]:
    """The rms gradient of the bound per sigma by the output at its optimum, at each of `_SIGMAS`; exact.

    It is 2 |D| times the rms error of v, D as in `pipeline/diffusion/parametrisation.py`.
    """
    line = Line(run.target)
    path = noise_path(torch.tensor(_SIGMAS, dtype=torch.float64))
    coefficients = PARAMETRISATIONS[run.model.parametrisation](path, math.sqrt(line.variance))
    errors = [line.find_error(a, s) for a, s in zip(path.alpha.tolist(), path.sigma.tolist(), strict=True)]
    factors = coefficients.f_of_output.abs().tolist()
    return [2 * factor * math.sqrt(error) for factor, error in zip(factors, errors, strict=True)]


def measure_bound(run: BoundRun) -> FullRecord:
    """Estimate, expectation and gradients."""
    line, values = Line(run.target), draw_bounds(run)
    spread, entropy = float(values.var()) ** 0.5, line.find_entropy()
    gradients, outputs = list_gradients(run), [line.find_square((1 - s**2) ** 0.5, s) ** 0.5 for s in _SIGMAS]
    raw = run.estimate.form == "raw"
    return FullRecord(
        nelbo=float(values.mean()),
        nelbo_stderr=spread / math.sqrt(len(values)),
        nelbo_exact=integrate_raw(line, run.estimate.cut) if raw else entropy,
        entropy=entropy,
        draw_sd=spread,
        gradient_data=gradients[0],
        gradient_low=gradients[_SIGMAS.index(0.1)],
        gradient_noise=gradients[-1],
        f_data=outputs[_SIGMAS.index(1e-3)],
        f_low=outputs[_SIGMAS.index(0.1)],
        sigmas=list(_SIGMAS),
        gradients=gradients,
        outputs=outputs,
    )
