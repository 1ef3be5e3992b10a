"""The study `worth`: what a diffusion model of Gaussian data must lose without the noise level, exactly."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.arm import Arm
from pipeline.schema.base import SpecError, Strict
from pipeline.schema.diffusion import Diffusion
from pipeline.schema.study import MeasuredRecord, Run, Study

DIGITS_SIZE = 8
"""Pixels a side of scikit-learn's digits."""


class Data(Strict):
    """Gaussian images, and how many of them are drawn."""

    spectrum: Literal["white", "natural", "digits"] = Field(
        "white",
        description="covariance: white: variance 1 in each pixel; natural: 1/f^2, pixel variance 0.25; "
        "digits: mean and covariance of scikit-learn's digits in [-1, 1]",
    )
    size: int = Field(8, ge=1, le=64, description="pixels a side")
    colours: int = Field(1, ge=1, le=4, description="independent copies, one a colour")
    blend: float = Field(
        1.0, ge=0, le=1, description="share b of the spectrum: mean b m, covariance b C + (1 - b) I; 0 is white noise"
    )
    samples: int = Field(4000, ge=2, le=1_000_000, description="noisy images that the gap is averaged over")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.spectrum == "digits" and self.size != DIGITS_SIZE:
            raise ValueError(f"spectrum = digits has size = {DIGITS_SIZE}, not {self.size}")
        return self


class WorthRun(Run):
    """One distribution of images under one schedule; the seed is that of the samples."""

    study: Literal["worth"] = "worth"
    data: Data
    diffusion: Diffusion


class WorthRecord(MeasuredRecord):
    """Mean losses a pixel of the noise prediction, over all levels: DDPM's loss (Ho et al. 2020, equation 14)."""

    told: float = Field(ge=0, description="of the optimum that is told the level; exact")
    blind: float = Field(ge=0, description="of the optimum that is not: told + gap")
    gap: float = Field(ge=0, description="mean square difference of the two optima")
    gap_stderr: float = Field(ge=0, description="standard error of gap")
    gap_exact: float | None = Field(description="for white noise the variance of sigma over levels; null: not known")
    share: float = Field(ge=0, le=100, description="gap in per cent of blind")
    share_stderr: float = Field(ge=0, description="standard error of share")
    level_sd: float = Field(
        ge=0, description="mean standard deviation of t in [0, 1] given the noisy image; 0.289 if it tells nothing"
    )


def _measure(run: WorthRun) -> WorthRecord:
    from pipeline.studies.worth.measure import measure_worth

    return measure_worth(run)


def _check_arm(run: WorthRun, arm: Arm, _: Any) -> None:
    """Refuse an override without effect."""
    if run.data.spectrum == "white" and "blend" in arm.overrides:
        raise SpecError(f"arm {str(arm)!r}: blend has no effect with spectrum = white")


STUDY = Study(
    name="worth",
    run=WorthRun,
    record=WorthRecord,
    measure=_measure,
    cases=("gaussian",),
    check_arm=_check_arm,
)
