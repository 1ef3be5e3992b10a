"""The study `phases`: when a diffusion model settles the mode of a sample, and what its training makes of it."""

from typing import Any, Literal

from pydantic import Field

from pipeline.schema.arm import Arm
from pipeline.schema.base import SpecError, Strict
from pipeline.schema.study import MeasuredRecord, Run, Study

OVERLAPS, UTURN, BUDGET, DIGITS = "overlaps", "uturn", "budget", "digits"


class Target(Strict):
    """A mixture of N(mu, spread^2 I) and N(-mu, spread^2 I), mu = (1, ..., 1); x_u = (1 - u) noise + u x."""

    dimension: int = Field(400, ge=25, le=10**9, description="d")
    weight: float = Field(0.8, gt=0, lt=1, description="p, of the mode at mu")
    spread: float = Field(0.5, gt=0, le=100, description="standard deviation of a mode, in each coordinate")
    k: float = Field(
        2.0, gt=0, le=100, description="the dilated time gives half of itself to u sqrt(d) < k (uturn: beyond depth)"
    )


class Training(Strict):
    """The training recipe: Adam, with a learning rate that falls linearly to 0; every batch is new."""

    steps: int = Field(800, ge=10, le=1_000_000, description="optimiser steps")
    batch_size: int = Field(128, ge=1, le=65536, description="samples a step; of overlaps: at each time")
    learning_rate: float = Field(0.02, gt=0, description="at the first step")


class Autoencoder(Strict):
    """The two-layer denoising autoencoder c x + a tanh(w x / sqrt(d) + bias), one for each time."""

    times: int = Field(8, ge=2, le=200, multiple_of=2, description="dilated times, the middles of so many parts")


class Turn(Strict):
    """A sample of a mode goes to noise and comes back."""

    depth: float = Field(1.0, gt=0, le=1000, description="u sqrt(d) where it turns; u = 0 is noise")
    steps_back: int = Field(400, ge=2, le=100_000, multiple_of=2, description="ancestral steps of the way back")
    samples: int = Field(10_000, ge=2, le=10_000_000, description="from each mode")


class Denoiser(Strict):
    """A perceptron with one hidden layer, and the exact linear part of the posterior mean, trained on all times."""

    width: int = Field(64, ge=1, le=4096, description="hidden units")
    clock: Literal["scaled", "plain", "none"] = Field(
        "scaled", description="its inputs beside x; scaled: u sqrt(d) / (1 + u sqrt(d)) and u; plain: u twice"
    )
    density: Literal["uniform", "dilated", "windowed"] = Field(
        "uniform",
        description="of training times u; dilated: half of them below k / sqrt(d); "
        "windowed: half of them where a U-turn changes the mode",
    )
    grid: int = Field(100, ge=2, le=100_000, description="Euler steps of sampling, in dilated time")
    drawn: int = Field(500, ge=2, le=1_000_000, description="samples")


class Images(Strict):
    """Zeros and ones of scikit-learn's digits, 8 x 8, in place of the mixture; x_u = (1 - u) noise + u x."""

    heavy: float = Field(0.8, gt=0, lt=1, description="weight of the zeros")
    k: float = Field(3.0, gt=0, lt=8, description="the dilated time gives half of itself to u sqrt(d) < k, d = 64")


class OverlapRun(Run):
    """Autoencoders in training, against the Bayes denoiser."""

    study: Literal["phases"] = "phases"
    target: Target
    autoencoder: Autoencoder
    training: Training


class TurnRun(Run):
    """U-turns with the exact posterior mean."""

    study: Literal["phases"] = "phases"
    target: Target
    turn: Turn


class BudgetRun(Run):
    """One network for all times, at a fixed number of optimiser steps."""

    study: Literal["phases"] = "phases"
    target: Target
    denoiser: Denoiser
    training: Training


class DigitsRun(Run):
    """The same on images."""

    study: Literal["phases"] = "phases"
    images: Images
    denoiser: Denoiser
    training: Training


class PhasesRecord(MeasuredRecord):
    """Numbers of one of the cases; those of the others are null."""

    excess: float | None = Field(None, description="overlaps: largest over the times of mean |f - f*|^2 / Bayes error")
    c_error: float | None = Field(None, description="overlaps: largest |c - c*|")
    m_error: float | None = Field(None, description="overlaps: largest |m - m*| where m is identified")
    omega_error: float | None = Field(None, description="overlaps: largest |omega / omega* - 1| where it is identified")
    bias_error: float | None = Field(None, description="overlaps: largest |bias - h| where it is identified")
    stay: float | None = Field(None, description="uturn: share of returns to mu, from mu")
    stay_stderr: float | None = Field(None, description="its binomial standard error")
    stay_exact: float | None = Field(None, description="the same by quadrature")
    cross: float | None = Field(None, description="uturn: share of returns to mu, from -mu")
    cross_stderr: float | None = Field(None, description="its binomial standard error")
    cross_exact: float | None = Field(None, description="the same by quadrature")
    balance: float | None = Field(None, description="uturn: p P(mu to -mu) - (1 - p) P(-mu to mu)")
    balance_stderr: float | None = Field(None, description="its standard error")
    balance_exact: float | None = Field(None, description="detailed balance: 0")
    weight: float | None = Field(None, description="budget, digits: share of samples in the mode at mu, of zeros")
    weight_stderr: float | None = Field(None, description="its binomial standard error")
    weight_error: float | None = Field(None, description="budget, digits: distance of the weight from the target")
    s: list[float] = Field(default_factory=list, description="overlaps: dilated times, in [0, 2]")
    learned: list[list[float]] = Field(default_factory=list, description="overlaps: c, m, omega, bias at each of them")
    exact: list[list[float]] = Field(default_factory=list, description="overlaps: those of the Bayes denoiser")


def _measure(run: Any) -> PhasesRecord:
    from pipeline.studies.phases.measure import measure_phases

    return measure_phases(run)


def _check_arm(run: Any, arm: Arm, _: Any) -> None:
    """Refuse what cannot be."""
    if isinstance(run, DigitsRun):
        return
    root = run.target.dimension**0.5
    if run.target.k >= root:
        raise SpecError(f"arm {str(arm)!r}: k = {run.target.k:g}: it must be below sqrt(d) = {root:.4g}")
    if isinstance(run, TurnRun) and run.turn.depth + run.target.k >= root:
        raise SpecError(f"arm {str(arm)!r}: depth + k = {run.turn.depth + run.target.k:g}: likewise below {root:.4g}")


STUDY = Study(
    name="phases",
    run=BudgetRun,
    others={OVERLAPS: OverlapRun, UTURN: TurnRun, DIGITS: DigitsRun},
    record=PhasesRecord,
    measure=_measure,
    cases=(OVERLAPS, UTURN, BUDGET, DIGITS),
    check_arm=_check_arm,
    views="pipeline.studies.phases.views",
    costs="pipeline.studies.phases.cost",
)
