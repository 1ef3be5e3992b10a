"""The sections `compute` and `resources` of params.yaml: device, precision, threads, GPUs, checkpoints."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.base import ModelT, SpecError, Strict, read_yaml, validate
from pipeline.schema.mistakes import add_line


class Compute(Strict):
    """How models are trained and sampled. Part of a model's identity: a change trains anew."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU if there is one, else the CPU")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16: autocast; float32: as in the paper"
    )
    tf32: bool = Field(False, description="whether a GPU may use TF32: factors rounded to 10 bits")
    compile: bool = Field(False, description="torch.compile of the ODE function or the U-Net; needs a C++ compiler")
    deterministic: bool = Field(
        True, description="the same bytes each time on the same kind of device; false: faster kernels on a GPU"
    )
    portable: bool = Field(
        True, description="the same bytes on every x86-64 CPU with AVX2; no promise for others, no effect on GPUs"
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads per stage")

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
    """GPUs, checkpoints, and what a failed run means. Not part of a model's identity: a change trains nothing anew."""

    gpus: Literal["all"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        description="GPUs of this machine for training or sampling one diffusion model"
    )
    checkpoint_minutes: float = Field(
        ge=0, le=1e4, description="minutes between the checkpoints from which an interrupted run resumes"
    )
    strict: bool = Field(description="whether `dvc repro` ends with an error, after all else, if a run failed")


def _validate(root: Path, model: type[ModelT], name: str) -> ModelT:
    params = read_yaml(root / "params.yaml")
    try:
        return validate(model, params.get(name) if isinstance(params, dict) else None, "params.yaml", name)
    except SpecError as error:
        raise SpecError(add_line(root, str(error))) from None


def load_compute(root: Path) -> Compute:
    """Read and validate only the section `compute` of params.yaml."""
    return _validate(root, Compute, "compute")


def load_resources(root: Path) -> Resources:
    """Read and validate only the section `resources` of params.yaml."""
    return _validate(root, Resources, "resources")
