"""Settings of a discrete diffusion model: its noise schedule, and sampling."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.base import Strict

OutputKind = Literal["noise", "x0", "v", "edm", "flow", "edm_full", "full"]
"""What a network's output may stand for; `pipeline/diffusion/parametrisation.py`."""


class Diffusion(Strict):
    """The discrete linear variance-preserving schedule: beta from beta_min / levels to beta_max / levels."""

    levels: int = Field(1000, ge=2, le=1_000_000, description="number of noise levels; level 0 is the least noisy")
    beta_min: float = Field(0.1, gt=0, description="score_sde's units: 0.1 is 1e-4 at 1000 levels")
    beta_max: float = Field(20.0, gt=0, description="score_sde's units: 20 is 0.02 at 1000 levels")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.beta_min < self.beta_max < self.levels:
            raise ValueError(
                f"beta_min < beta_max < levels is needed, so that every beta is below 1; levels = {self.levels}"
            )
        return self


class Sampling(Strict):
    """Sampling from averaged weights. The noise of image i depends on (seed, i) alone."""

    images: int = Field(ge=2, description="images of a sample set")
    sets: int = Field(ge=1, le=100, description="number of disjoint sample sets of the last weights")
    first_snapshot: int | None = Field(
        ge=1, description="training step from which on snapshots are sampled too, one set each; null: no snapshots"
    )
    batch_size: int = Field(ge=1, description="images at a time on one device")
    sampler: Literal["ancestral", "ddim"] = Field(
        description="ancestral: adds noise in each step; ddim: deterministic (Song et al. 2021, eta = 0)"
    )
    steps: int = Field(ge=1, description="sampling steps: number of levels visited, evenly spaced; all in the paper")
    clip: bool = Field(description="whether each step clips the x0-prediction to [-1, 1]")
    labels: Literal["fractional", "integer"] = Field(
        description="level passed to the network: 0.999 (level + 1) as in score_sde_pytorch, or the level itself"
    )
    variance: Literal["large", "small"] = Field(
        description="variance of the noise in ancestral sampling: large is beta, small is the posterior's"
    )
    quantisation: Literal["truncate", "round"] = Field(description="conversion to uint8; score_sde_pytorch truncates")
