"""Chooses the device, and deterministic or fast kernels."""

import os
import shutil
import sys

from pipeline.compute.cpu import lacks_avx2
from pipeline.schema.base import MachineError
from pipeline.schema.compute import Compute


def check_compute(compute: Compute) -> None:
    """Refuse settings that this machine cannot meet: GPU, AVX2, C++ compiler.

    Imports torch only for `cuda`, since that takes 3 s.

    Raises:
        MachineError: something is missing.
    """
    if compute.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise MachineError("params.yaml: compute.device = 'cuda': torch sees no GPU here; allowed are auto and cpu")
    elif compute.portable and lacks_avx2():
        raise MachineError("params.yaml: compute.portable = true: this CPU has no AVX2; set it to false")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")  # torch's own choice
    if compute.compile and shutil.which(compiler.split(" ")[0]) is None:
        raise MachineError(f"params.yaml: compute.compile = true: needs a C++ compiler, and {compiler!r} is not here")


def choose_device(compute: Compute) -> str:
    """Return `cpu` or `cuda`, and make torch use deterministic or fast kernels from here on.

    Raises:
        MachineError: this machine lacks a GPU, AVX2 or a compiler that the settings need.
    """
    check_compute(compute)
    import torch

    if not compute.deterministic:
        torch.set_deterministic_debug_mode("default")
    elif compute.compile:
        torch.use_deterministic_algorithms(True)  # applies to the compiler too; importing that takes 3 s
    else:
        torch.set_deterministic_debug_mode("error")  # the same without the compiler
    # A debugging aid that costs time; determinism does not need it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not compute.deterministic
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = compute.tf32
    return "cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu"
