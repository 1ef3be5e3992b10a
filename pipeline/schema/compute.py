"""The sections `compute` and `resources` of params.yaml: where and how models are trained and sampled."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.base import Strict, read_yaml, validate


class Compute(Strict):
    """Where and how models are trained and sampled; part of every trained model's identity."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU if there is one")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: autocast; float32 is the paper's"
    )
    tf32: bool = Field(False, description="whether a GPU may round factors to TF32's 10 bits; the reference is without")
    compile: bool = Field(False, description="torch.compile of the ODE function or the U-Net; needs a C++ compiler")
    deterministic: bool = Field(
        True, description="the same bytes each time on the same kind of device; false: a GPU may take faster kernels"
    )
    portable: bool = Field(
        True, description="the same bytes on every x86-64 CPU with AVX2; no promise on others, no effect on a GPU"
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads of a stage")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.portable and self.device != "cuda":
            if self.threads > 1:
                raise ValueError(
                    f"portable = true: several threads (threads = {self.threads}) give other bytes on another CPU; "
                    "set threads to 1, portable to false, or device to cuda"
                )
            if self.compile:
                raise ValueError(
                    "portable = true: compile = true builds kernels for this very CPU; set one of them to false, "
                    "or device to cuda"
                )
        return self


class Resources(Strict):
    """What a run may use and what its failure means; no part of its identity: changing it trains nothing again."""

    gpus: Literal["all"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        description="of this machine, for the training or sampling of one diffusion model"
    )
    checkpoint_minutes: float = Field(
        ge=0, le=1e4, description="between the states from which an interrupted training or sampling goes on"
    )
    strict: bool = Field(description="whether `dvc repro` ends with an error, after all else, where a run failed")


def _read_section(root: Path, name: str) -> Any:
    params = read_yaml(root / "params.yaml")
    return params.get(name) if isinstance(params, dict) else None


def load_compute(root: Path) -> Compute:
    """Read the section `compute` of params.yaml, and nothing else of it."""
    return validate(Compute, _read_section(root, "compute"), "params.yaml", "compute")


def load_resources(root: Path) -> Resources:
    """Read the section `resources` of params.yaml, and nothing else of it."""
    return validate(Resources, _read_section(root, "resources"), "params.yaml", "resources")
