"""What sampling and training hand to the evaluation of a diffusion model."""

from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from pipeline.schema.base import Strict
from pipeline.schema.compute import Compute
from pipeline.schema.record import LevelAwareness
from pipeline.studies.ddpm.study import DdpmRun, Sampling


class SampleSets(Strict):
    """samples/ddpm/DATASET/ARM/SEED/samples.json: the sample sets beside it."""

    steps: int = Field(ge=0, description="optimiser steps of the last weights; 0 of imported ones")
    snapshots: list[int] = Field(description="steps of the earlier weights that were sampled too, ascending")
    sampling: Sampling

    @model_validator(mode="after")
    def _check(self) -> Self:
        steps = [0, *self.snapshots, self.steps]
        if self.snapshots and any(a >= b for a, b in pairwise(steps)):
            raise ValueError(f"snapshots = {self.snapshots}: not ascending between 0 and steps = {self.steps}")
        return self


class TrainedModel(Strict):
    """runs/ddpm/DATASET/ARM/SEED/run.json."""

    run: DdpmRun
    compute: Compute | None = Field(default=None, description="absent of imported weights")
    num_params: int = Field(ge=1, description="trained parameters")


class LevelAwarenessPair(Strict):
    """runs/ddpm/DATASET/ARM/SEED/level_awareness.json."""

    initial: LevelAwareness | None = Field(default=None, description="before the first step; absent of imported ones")
    trained: LevelAwareness

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, one in (("initial", self.initial), ("trained", self.trained)):
            if one is None:
                continue
            if not one.levels or not one.block_change or len(one.block_share) != len(one.block_change):
                raise ValueError(f"{name}: levels, and as many blocks in block_change as in block_share, are needed")
            if any(len(block) != len(one.levels) for block in one.block_change):
                raise ValueError(f"{name}.block_change: {len(one.levels)} values a block are needed, one a level")
        return self
