"""The study `schedules`: what noise schedules lose in high dimension, with exact posterior means. Trains nothing."""

from typing import Any, Literal

from pydantic import Field

from pipeline.schema.arm import Arm
from pipeline.schema.base import SpecError, Strict
from pipeline.schema.study import MeasuredRecord, Run, Study

CURIE_WEISS = "curie_weiss"
"""The case of spins; the other is the mixture of two Gaussians."""


class Path(Strict):
    """The noise schedule. The time of its names runs from noise to data, as in the paper."""

    schedule: Literal["vp", "vp_dilated", "ve", "ve_dilated"] = Field(
        "vp", description="noise of size 1 (vp) or sqrt(d) (ve) at the start; dilated: half of the steps in each phase"
    )
    shape: Literal["linear", "trigonometric"] = Field(
        "linear", description="sigma = 1 - alpha, or sqrt(1 - alpha^2); of ve times sqrt(d)"
    )
    k: float = Field(
        3.0, gt=0, le=100, description="where phases of a dilated schedule meet: alpha sqrt(d) = k (vp), sigma = k (ve)"
    )


class GaussianTarget(Strict):
    """A mixture of N(mu, spread^2 I) and N(-mu, spread^2 I), mu = (distance, ..., distance)."""

    dimension: int = Field(1_000_000, ge=10, le=10**9, description="d")
    weight: float = Field(0.8, gt=0, lt=1, description="p, of the mode at mu")
    distance: float = Field(1.0, gt=0, le=100, description="r = |mu| / sqrt(d)")
    spread: float = Field(0.5, gt=0, le=100, description="standard deviation of a mode, in each coordinate")


class SpinTarget(Strict):
    """Spins +-1 of the Curie-Weiss model, P(x) ~ exp(beta S^2 / 2d + field S / d), S their sum."""

    spins: int = Field(10_000, ge=10, le=1_000_000, description="d")
    beta: float = Field(2.0, gt=1, le=5, description="inverse temperature; above 1 the spins take sides")
    field: float = Field(0.693, ge=0, le=10, description="h: what makes one side likelier")


class Sampler(Strict):
    """Euler's method for the probability flow."""

    steps: int = Field(
        20, ge=0, le=10_000_000, description="K; 0: as few as keep both the weight and the spread (mixture)"
    )
    samples: int = Field(20_000, ge=2, le=10_000_000, description="of one run")


class MixtureRun(Run):
    """A schedule on a mixture of two Gaussians; the seed is that of the samples."""

    study: Literal["schedules"] = "schedules"
    path: Path
    target: GaussianTarget
    sampler: Sampler

    @property
    def dimension(self) -> int:
        """The number of coordinates."""
        return self.target.dimension


class SpinRun(Run):
    """A schedule on Curie-Weiss spins; likewise."""

    study: Literal["schedules"] = "schedules"
    path: Path
    spin: SpinTarget
    sampler: Sampler

    @property
    def dimension(self) -> int:
        """The number of coordinates."""
        return self.spin.spins


class SchedulesRecord(MeasuredRecord):
    """What Euler's method makes of a target. High-level: the weight of a mode; low-level: its spread, or its spins."""

    steps: int = Field(ge=1, description="K: steps taken, and evaluations of the posterior mean")
    weight: float = Field(ge=0, le=1, description="share of samples in the mode at mu, or with S > 0")
    weight_stderr: float = Field(
        ge=0, description="binomial, of the share with two samples more on each side, so never 0 (Agresti, Coull 1998)"
    )
    weight_exact: float | None = Field(
        description="of Euler's method itself, without samples; null: Curie-Weiss, or a step that is not monotone"
    )
    weight_target: float = Field(description="of the target; Curie-Weiss: exact at this d")
    spread: float | None = Field(description="standard deviation of a mode, along a coordinate; null: Curie-Weiss")
    spread_stderr: float | None = Field(description="standard error of spread")
    spread_exact: float | None = Field(description="of Euler's method itself, without samples")
    spread_target: float | None = Field(description="of the target")
    square: float | None = Field(description="mean of x_i^2, which is 1 for spins; null: mixture")
    up: float | None = Field(description="share of x_i > 0 in samples with S > 0; null: mixture, or no such sample")
    up_stderr: float | None = Field(description="standard error of up")
    up_target: float | None = Field(description="of the target as d grows: (1 + m*) / 2")
    times: list[float] = Field(description="u of `means`, from 0 (noise) to 1")
    means: list[list[float]] = Field(description="mean over coordinates of a few samples, at these times")


def _measure(run: Any) -> SchedulesRecord:
    from pipeline.studies.schedules.measure import measure_schedule

    return measure_schedule(run)


def _check_arm(run: Any, arm: Arm, _: Any) -> None:
    """Refuse an override without effect, and what cannot be."""
    dilated = run.path.schedule.endswith("dilated")
    if "k" in arm.overrides and not dilated:
        raise SpecError(f"arm {str(arm)!r}: k has no effect with schedule = {run.path.schedule}")
    if dilated and run.path.k**2 >= run.dimension:
        raise SpecError(f"arm {str(arm)!r}: k = {run.path.k:g}: it must be below sqrt(d) = {run.dimension**0.5:.4g}")
    if run.sampler.steps == 0 and isinstance(run, SpinRun):
        raise SpecError(f"arm {str(arm)!r}: steps = 0: the fewest steps are known for the mixture alone")


STUDY = Study(
    name="schedules",
    run=MixtureRun,
    others={CURIE_WEISS: SpinRun},
    record=SchedulesRecord,
    measure=_measure,
    cases=("mixture", CURIE_WEISS),
    check_arm=_check_arm,
    views="pipeline.studies.schedules.views",
    costs="pipeline.studies.schedules.cost",
)
