"""The section `compute` of params.yaml: where and how models are trained and sampled."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.schema.base import Strict, read_yaml, validate


class Compute(Strict):
    """Where and how models are trained and sampled; part of every trained model's identity."""

    device: Literal["auto", "cpu", "cuda"] = Field(description="auto: the GPU if there is one")
    precision: Literal["float32", "bfloat16"] = Field(description="bfloat16: autocast; float32 is the paper's")
    tf32: bool = Field(
        description="whether a GPU may round factors to TF32's 10 bits; float32 without it is the paper's"
    )
    compile: bool = Field(description="torch.compile of the ODE function or the U-Net; needs a C++ compiler")
    threads: int = Field(ge=1, le=1024, description="CPU threads of a stage")
    gpus: Literal["all"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        description="of this machine, for one diffusion model's training or sampling"
    )
    checkpoint_minutes: float = Field(
        ge=0, le=1e4, description="between states from which an interrupted training goes on; no part of the result"
    )


def load_compute(root: Path) -> Compute:
    """Read the section `compute` of params.yaml, and nothing else of it."""
    params = read_yaml(root / "params.yaml")
    section = params.get("compute") if isinstance(params, dict) else None
    return validate(Compute, section, "params.yaml", "compute")
