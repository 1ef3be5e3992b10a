"""Runs the time test of one network, and checks it against equation 5."""

import math

from pipeline.schema.study import MeasureError
from pipeline.studies.ddpm.derived import loses_level
from pipeline.studies.node.derived import loses_time
from pipeline.studies.timetest.field import run_field_test
from pipeline.studies.timetest.score import Score, find_half, scale_losses
from pipeline.studies.timetest.study import FieldRun, NoiseRun, TimetestRecord
from pipeline.studies.timetest.white_noise import run_noise_test

_TOLERANCE = 1e-6
"""Of R where it is exactly known: rounding in float32."""


def check_blind(score: Score, half: float | None, step: int) -> None:
    """Refuse a score, or a training loss, that no network without the time can have.

    Args:
        half: see `find_half`; it is None as long as batches do not tell the time.
        step: optimiser steps done, for the record of the failure.

    Raises:
        MeasureError: the code is wrong, in the network, the test, or the rule that calls the network blind.
    """
    if score.r is None or score.r_centred is None:
        return
    if score.r < 1 - _TOLERANCE or abs(score.r_centred - 1) > _TOLERANCE:
        raise MeasureError(
            f"equation 5 says that this network loses the time, but R = {score.r:.8g} and centred R = "
            f"{score.r_centred:.8g}: at least 1, and 1, were possible",
            step,
        )
    if half is not None:
        raise MeasureError(
            f"equation 5 says that this network loses the time, but in step {half:.0f} its training loss is half the "
            "way to that of networks which know it",
            step,
        )


def measure_timetest(run: FieldRun | NoiseRun) -> TimetestRecord:
    """Train a network on its task and score it.

    Raises:
        MeasureError: the training diverged, a solve gave up, or the score contradicts equation 5.
    """
    if isinstance(run, NoiseRun):
        blind, found = loses_level(run.network), run_noise_test(run)
    else:
        blind, found = loses_time(run.network), run_field_test(run)
    score, flow = found.score, found.flow
    losses = scale_losses(found.losses, found.told, found.blind)
    half = find_half(losses)
    if blind:
        check_blind(score, half, run.training.steps)
    return TimetestRecord(
        r=score.r,
        r_centred=score.r_centred,
        error=score.error,
        change=score.change,
        share_initial=found.share_initial,
        share=found.share,
        half_step=half,
        half_log=None if half is None else math.log2(half),
        nfe=found.nfe,
        flow_r=None if flow is None else flow.r,
        flow_floor=None if flow is None else flow.floor,
        floor=score.floor,
        told=found.told,
        blind=found.blind,
        is_blind=blind,
        num_params=found.num_params,
        losses=losses,
    )
