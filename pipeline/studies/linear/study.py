"""The study `linear`: how a two-layer linear network learns, between lazy and balanced. Its fields and its record."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.arm import Arm
from pipeline.schema.base import SpecError, Strict
from pipeline.schema.study import MeasuredRecord, Run, Study

MOMENTS = 20
"""Parts of the training after which singular values are taken."""


class LinearNetwork(Strict):
    """A = W2 W1 and its initial weights, from N(0, s / w)."""

    size: int = Field(50, ge=1, le=1000, description="inputs, and outputs, d")
    width: int = Field(2500, ge=1, le=10**9, description="hidden units w; the price does not depend on it")
    threshold: float = Field(
        1.0, gt=0, le=1e6, description="s = w times the variance of a weight: lazy below this singular value"
    )


class Signal(Strict):
    """What it learns: a matrix of low rank, seen through noise."""

    rank: int = Field(5, ge=1, le=1000, description="of the signal, whose entries have root mean square 1")
    noise: float = Field(1.0, ge=0, le=100, description="standard deviation of the noise's entries")


class Descent(Strict):
    """Gradient descent, and the gradient flow beside it."""

    step: float = Field(
        0.1, gt=0, le=1, description="step size, in units of 1 / max(largest singular value of the signal, s)"
    )
    time: float = Field(10.0, gt=0, le=1000, description="training time, in the same units")
    flow: bool = Field(True, description="whether gradient flow and formula are solved by dopri5 too")
    rtol: float = Field(1e-6, gt=0, lt=1, description="relative tolerance of these solves; the absolute one is a tenth")

    @property
    def iterations(self) -> int:
        """Steps of gradient descent."""
        return max(1, round(self.time / self.step))


class LinearRun(Run):
    """One network on one signal; the seed is that of weights, signal and noise."""

    study: Literal["linear"] = "linear"
    network: LinearNetwork
    signal: Signal
    descent: Descent

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.signal.rank > self.network.size:
            raise ValueError(f"rank = {self.signal.rank} is greater than size = {self.network.size}")
        return self


class LinearRecord(MeasuredRecord):
    """Gradient descent, gradient flow and the mixed formula, against each other and against what is known exactly.

    A distance of two matrices is |A - B| / |Y|, Frobenius, Y the data; the greatest of the training.
    """

    deviation: float = Field(ge=0, description="of gradient descent from the formula, both with the same steps")
    deviation_flow: float | None = Field(ge=0, description="of gradient flow from the formula, both by dopri5")
    step_error: float | None = Field(ge=0, description="of gradient descent from gradient flow")
    rate_error: float = Field(
        ge=0, description="root mean square of rate / sqrt(a^2 + s^2) - 1 over singular values a and moments"
    )
    nfe_flow: float | None = Field(ge=0, description="function evaluations of the gradient flow, in one solve")
    nfe_formula: float | None = Field(ge=0, description="the same of the formula")
    closed_error: float | None = Field(
        ge=0, description="of gradient flow from the exact solution; null: not scalar, or not solved"
    )
    invariant: float | None = Field(ge=0, description="conserved by a scalar network, over s^2; null: not scalar")
    invariant_exact: float | None = Field(description="its mean over initial weights")
    invariant_stderr: float | None = Field(description="its standard deviation over initial weights, exact")
    test_error: float | None = Field(
        ge=0, description="least |A - signal|^2 / |signal|^2 of the training; null: no noise to fit"
    )
    test_error_formula: float | None = Field(ge=0, description="the same by the formula")
    iterations: float | None = Field(ge=0, description="steps of gradient descent to that error")
    stable_rank: float | None = Field(ge=0, description="|A|^2 / largest singular value^2 at that step")
    truncated: float | None = Field(ge=0, description="the same error of the data's best matrix of the signal's rank")
    lazy: float | None = Field(ge=0, description="the least that lazy training of infinite width comes to, exact")
    above_truncated: float | None = Field(description="test_error - truncated")
    above_lazy: float | None = Field(description="test_error - lazy")
    moments: list[int] = Field(description="steps of gradient descent after which the lists below are taken")
    singular: list[list[float]] = Field(description="largest singular values of A by gradient descent, at each moment")
    singular_formula: list[list[float]] = Field(description="the same by the formula")
    rates: list[list[float]] = Field(description="rates along those of gradient descent")


def _measure(run: LinearRun) -> LinearRecord:
    from pipeline.studies.linear.measure import measure_linear

    return measure_linear(run)


def _check_arm(run: LinearRun, arm: Arm, _: Any) -> None:
    """Refuse an override without effect."""
    if not run.descent.flow and "rtol" in arm.overrides:
        raise SpecError(f"arm {str(arm)!r}: rtol has no effect with flow = false")


STUDY = Study(
    name="linear",
    run=LinearRun,
    record=LinearRecord,
    measure=_measure,
    cases=("scalar", "matrix", "recovery"),
    check_arm=_check_arm,
    views="pipeline.studies.linear.views",
    costs="pipeline.studies.linear.cost",
)
