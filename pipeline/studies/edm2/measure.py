"""Measures a run of the study, by its case."""

from pipeline.studies.edm2.block import measure_block
from pipeline.studies.edm2.ladder import measure_ladder
from pipeline.studies.edm2.post_hoc import measure_post_hoc
from pipeline.studies.edm2.study import BlockRun, Edm2Record, LadderRun, PostHocRun


def measure_edm2(run: PostHocRun | BlockRun | LadderRun) -> Edm2Record:
    """One trajectory's averages, one block or one training.

    Raises:
        MeasureError: the training diverged.
    """
    if isinstance(run, PostHocRun):
        return measure_post_hoc(run)
    return measure_block(run) if isinstance(run, BlockRun) else measure_ladder(run)
