"""The study `audit`: what networks that people use do with the time at their initial weights. Trains nothing."""

from typing import Literal

from pydantic import Field

from pipeline.schema.base import Strict
from pipeline.schema.study import MeasuredRecord, Run, Study

Network = Literal[
    "node",
    "node_by_channel",
    "unet",
    "unet_by_channel",
    "concat_squash",
    "unet2d",
    "unet2d_scale_shift",
    "unet2d_condition",
    "dit",
    "sd3",
    "flux",
    "torchcfm",
    "denoising_diffusion",
]
"""The built-in networks of `python -m pipeline audit`."""


class Audited(Strict):
    """What is audited."""

    network: Network = Field("node", description="a built-in network of `python -m pipeline audit`")
    time_scale: float = Field(1.0, gt=0, description="the times that it was made for are multiplied by this")


class AuditRun(Run):
    """One network; the seed is that of its weights."""

    study: Literal["audit"] = "audit"
    audited: Audited


class AuditRecord(MeasuredRecord):
    """Where time enters a network, and what is left of it. Numbers have nine digits: those that any CPU agrees on."""

    sites: int = Field(ge=0, description="places where time enters")
    added: int = Field(ge=0, description="of these by addition")
    scaled: int = Field(ge=0, description="by scale and shift")
    gated: int = Field(ge=0, description="by a gate")
    concatenated: int = Field(ge=0, description="as a channel")
    normed: int = Field(ge=0, description="followed by a norm that could cancel the time")
    cancelled: int = Field(ge=0, description="where the norm cancels all of it")
    survival: float | None = Field(ge=0, description="mean over the sites that a norm follows; null: none does")
    survival_least: float | None = Field(ge=0, description="least of these")
    survival_by_channel: float | None = Field(ge=0, description="mean of these with G = C in the norm's place")
    kept: float | None = Field(
        ge=0, description="mean over all sites; 1 where no norm follows; null: time enters nowhere"
    )
    kept_by_channel: float | None = Field(ge=0, description="the same with G = C in place of the norms")
    offset_part: float | None = Field(
        ge=0, description="part of the change before the norm that is one offset per channel, mean over sites"
    )
    offset_first: float | None = Field(ge=0, description="the same at the first site")
    rank: float | None = Field(ge=0, description="effective rank of the first embedding over the times")
    rank_sites: float | None = Field(ge=0, description="effective rank of what reaches the sites")
    width: int = Field(ge=0, description="features of the first embedding; 0: there is none")
    times: int = Field(ge=0, description="how many times the ranks are over")
    bfloat16: float | None = Field(
        ge=0, description="how many per cent of 100 neighbouring times are told apart in bfloat16; null: not taken"
    )
    output_change: float | None = Field(
        ge=0, description="relative change of the output from the middle to the last time; null: the output is 0"
    )
    float_change: float | None = Field(
        ge=0, description="relative change of the output from 0.0 to 0.9, given as Python floats; null: not taken"
    )


def _measure(run: AuditRun) -> AuditRecord:
    from pipeline.studies.audit.measure import measure_audit

    return measure_audit(run)


STUDY = Study(
    name="audit",
    run=AuditRun,
    record=AuditRecord,
    measure=_measure,
    cases=("random_weights",),
    views="pipeline.studies.audit.views",
)
