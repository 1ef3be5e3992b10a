"""The study `full`: diffusion without time truncation, on problems with known answers.

A derived reading that is consistent with the public reviews of FullDiffusion (ICLR 2025 submission), not a
reproduction: the paper's formulas are not known here.
"""

from typing import Any, Literal

from pydantic import Field

from pipeline.schema.arm import Arm
from pipeline.schema.base import SpecError, Strict
from pipeline.schema.diffusion import OutputKind
from pipeline.schema.study import MeasuredRecord, Run, Study

GAUSSIAN, MIXTURE, RAMP, LEARNED = "gaussian", "mixture", "ramp", "learned"
_NO_SIGNAL = ("cosine", "noise", "straight")
"""Schedules that end in pure noise: alpha = 0 at t = 1."""


class NoisePath(Strict):
    """The way from data to noise; all preserve the variance."""

    schedule: Literal["cosine", "noise", "straight", "vp_linear", "log_snr", "ve"] = Field(
        "cosine",
        description="cosine: angle linear in t; noise: sigma = t; straight: flow matching's 1 - t and t, scaled; "
        "vp_linear: DDPM's, beta 0.1 to 20; log_snr: VDM's; ve: EDM's sigma up to 80, scaled",
    )
    truncation: float = Field(
        0.0, ge=0, lt=0.5, description="times left out at both ends; of law = soft: the least floor; 0: none"
    )


class Gaussian(Strict):
    """Data N(mean, spread^2), of which a solver's outcome is computed without samples."""

    mean: float = Field(0.5, description="of the data")
    spread: float = Field(0.3, gt=0, description="standard deviation of the data")


class Target(Strict):
    """A mixture of two Gaussians on the line, at distance and -distance."""

    share: float = Field(0.7, gt=0, lt=1, description="weight of the mode at +distance")
    distance: float = Field(0.9, ge=0, description="of a mode from 0")
    width: float = Field(0.15, ge=0, description="standard deviation of a mode; 0: two atoms")


class Model(Strict):
    """What the network predicts, and what it minimises."""

    parametrisation: OutputKind = Field(
        "full", description="what the output stands for: x0 = A x + B output; pipeline/diffusion/parametrisation.py"
    )
    loss: Literal["bound", "simple"] = Field(
        "bound", description="bound: the negative ELBO; simple: the output's squared error, unweighted"
    )


class Times(Strict):
    """How the times of a batch are drawn."""

    law: Literal["uniform", "soft", "lognormal"] = Field(
        "uniform",
        description="uniform; soft: from a floor that each batch draws anew (soft truncation); lognormal: EDM's",
    )
    draws: Literal["independent", "stratified", "systematic"] = Field(
        "stratified", description="stratified: as many in each stratum; systematic: one draw, shifted by 1 / batch"
    )
    strata: int = Field(0, ge=0, description="of draws = stratified; 0: as many as the batch")


class Sampler(Strict):
    """The solver and its steps, evenly spaced in t; each evaluates the network once."""

    solver: Literal["exponential", "exponential2", "ancestral", "ddim", "ab2", "euler_maruyama"] = Field(
        "exponential2", description="pipeline/diffusion/reverse.py; ddim and ab2 solve the ODE, the others the SDE"
    )
    steps: int = Field(50, ge=2, le=4000, description="steps, which is also the NFE")


class Estimate(Strict):
    """A Monte Carlo estimate of the negative ELBO at the exact optimum."""

    form: Literal["closed", "raw"] = Field(
        "closed", description="closed: without truncation; raw: the weight 1 / sigma, from sigma = cut on"
    )
    cut: float = Field(0.01, gt=0, lt=1, description="of form = raw: the lowest sigma, below which the data is coded")
    size: int = Field(200_000, ge=100, le=10_000_000, description="draws")


class Ramp(Strict):
    """A known loss: mean 1 / (t + offset) at the time t, with a relative standard deviation."""

    batch: int = Field(32, ge=1, le=4096, description="times whose losses are averaged")
    offset: float = Field(0.05, gt=0, description="of the mean")
    noise: float = Field(0.3, ge=0, description="standard deviation of the loss at a time, over its mean")
    repeats: int = Field(4000, ge=100, le=1_000_000, description="batches drawn")


class Learning(Strict):
    """The training of a small network: Adam, the rate a cosine to 0."""

    updates: int = Field(600, ge=10, description="optimiser steps")
    batch_size: int = Field(128, ge=4, description="draws per step")
    learning_rate: float = Field(1e-2, gt=0, description="at the start")
    hidden: int = Field(64, ge=4, description="units of each of two hidden layers")


class SolverRun(Run):
    """A solver on Gaussian data with the exact denoiser; nothing is left to chance."""

    study: Literal["full"] = "full"
    path: NoisePath
    gaussian: Gaussian
    sampler: Sampler


class BoundRun(Run):
    """The negative ELBO and its gradients at the exact optimum; the seed is that of the draws."""

    study: Literal["full"] = "full"
    path: NoisePath
    target: Target
    model: Model
    estimate: Estimate


class RampRun(Run):
    """The variance of a batch's mean loss; the seed is that of the draws."""

    study: Literal["full"] = "full"
    times: Times
    ramp: Ramp


class LearnedRun(Run):
    """A small network trained on the mixture; the seed is that of its weights and its batches."""

    study: Literal["full"] = "full"
    path: NoisePath
    target: Target
    model: Model
    times: Times
    sampler: Sampler
    learning: Learning


class FullRecord(MeasuredRecord):
    """Numbers of one case; those of the others are null."""

    std_error: float | None = Field(None, ge=0, description="|standard deviation of the samples - that of the data|")
    std_bias: float | None = Field(None, description="the same with its sign; nothing is sampled")
    mean_error: float | None = Field(None, ge=0, description="|mean of the samples - that of the data|")
    order: float | None = Field(None, description="log2 of std_error at half the steps over std_error")
    excursion: float | None = Field(None, ge=0, description="largest standard deviation of x on the way; 1 is right")
    nfe: float | None = Field(None, ge=1, description="function evaluations")

    nelbo: float | None = Field(None, description="negative ELBO in nats")
    nelbo_stderr: float | None = Field(None, ge=0, description="its standard error")
    nelbo_exact: float | None = Field(None, description="its expectation, by quadrature")
    entropy: float | None = Field(None, description="of the data, in nats, by quadrature; null: two atoms")
    draw_sd: float | None = Field(None, ge=0, description="standard deviation of the estimate from one draw")
    gradient_data: float | None = Field(
        None, ge=0, description="rms gradient of the bound by the output at its optimum, at sigma = 1e-4; exact"
    )
    gradient_low: float | None = Field(None, ge=0, description="the same at sigma = 0.1")
    gradient_noise: float | None = Field(None, ge=0, description="the same at sigma = 0.9999")
    f_data: float | None = Field(None, ge=0, description="rms of the exact f at sigma = 1e-3")
    f_low: float | None = Field(None, ge=0, description="the same at sigma = 0.1")
    sigmas: list[float] = Field(default_factory=list, description="sigma of the two lists that follow")
    gradients: list[float] = Field(default_factory=list, description="rms gradient by the output")
    outputs: list[float] = Field(default_factory=list, description="rms of the exact f")

    variance: float | None = Field(None, ge=0, description="of a batch's mean loss, over batches")
    variance_stderr: float | None = Field(None, ge=0, description="its standard error")
    variance_exact: float | None = Field(None, ge=0, description="by the formula")
    floor: float | None = Field(None, ge=0, description="variance that no way to draw the times takes away")

    gap: float | None = Field(
        None, ge=0, description="negative ELBO of the trained network above the entropy, nats, sigma from 1e-3 on"
    )
    gap_data: float | None = Field(None, ge=0, description="what the decade of sigma below that adds, 1e-4 to 1e-3")
    gap_log: float | None = Field(None, description="log2 of gap_data over the decade before, 1e-3 to 1e-2")
    w1_sde: float | None = Field(None, ge=0, description="Wasserstein-1 distance of samples by the run's solver")
    w1_ode: float | None = Field(None, ge=0, description="the same by ab2")
    decades: list[float] = Field(default_factory=list, description="gap of each decade of sigma, the last to 1")


def _check_arm(run: Any, arm: Arm, _: Any) -> None:
    """Refuse an override without effect, and what is not finite."""
    where = f"arm {str(arm)!r}"
    for name in _list_idle(run):
        if name in arm.overrides:
            raise SpecError(f"{where}: {name} has no effect here")
    if isinstance(run, BoundRun):
        _check_form(run, where)
    if isinstance(run, SolverRun | LearnedRun):
        _check_ends(run, where)
    if isinstance(run, RampRun | LearnedRun):
        _check_times(run, where)


def _check_form(run: BoundRun, where: str) -> None:
    if run.estimate.form == "raw" and run.path.schedule != "noise":
        raise SpecError(f"{where}: form = raw needs schedule = noise, of which it is written")
    if run.path.schedule not in _NO_SIGNAL:
        raise SpecError(f"{where}: schedule = {run.path.schedule} does not end in pure noise: the bound is not closed")


def _list_idle(run: Any) -> list[str]:
    """Fields that change nothing in a run."""
    idle = []
    if isinstance(run, BoundRun):
        idle += ["loss", "truncation", *(["cut"] if run.estimate.form == "closed" else [])]
    if isinstance(run, RampRun):
        idle += ["law"]
    if isinstance(run, RampRun | LearnedRun) and run.times.draws != "stratified":
        idle += ["strata"]
    return idle


def _check_ends(run: SolverRun | LearnedRun, where: str) -> None:
    """Refuse coefficients that are infinite at t = 1."""
    if run.path.truncation > 0 or run.path.schedule not in _NO_SIGNAL:
        return
    infinite = ["solver = euler_maruyama"] if run.sampler.solver == "euler_maruyama" else []
    if isinstance(run, LearnedRun) and run.model.parametrisation == "noise":
        infinite += ["parametrisation = noise"]
    if infinite:
        raise SpecError(f"{where}: {infinite[0]} is infinite at t = 1 of schedule = {run.path.schedule}: truncate")


def _check_times(run: RampRun | LearnedRun, where: str) -> None:
    batch = run.ramp.batch if isinstance(run, RampRun) else run.learning.batch_size
    if run.times.strata and batch % run.times.strata:
        raise SpecError(f"{where}: strata = {run.times.strata}: it must divide the batch of {batch}")
    if isinstance(run, LearnedRun):
        if run.times.law == "soft" and run.path.truncation == 0:
            raise SpecError(f"{where}: law = soft needs truncation above 0, the least floor")
        if run.times.law == "lognormal" and (run.path.schedule != "cosine" or run.path.truncation > 0):
            raise SpecError(f"{where}: law = lognormal needs schedule = cosine and truncation = 0")


def _measure(run: Any) -> FullRecord:
    from pipeline.studies.full.measure import measure_full

    return measure_full(run)


STUDY = Study(
    name="full",
    run=SolverRun,
    others={MIXTURE: BoundRun, RAMP: RampRun, LEARNED: LearnedRun},
    record=FullRecord,
    measure=_measure,
    cases=(GAUSSIAN, MIXTURE, RAMP, LEARNED),
    check_arm=_check_arm,
    views="pipeline.studies.full.views",
    costs="pipeline.studies.full.cost",
)
