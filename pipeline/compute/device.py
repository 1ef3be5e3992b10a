"""The device, and whether its kernels are deterministic."""

import os
import shutil
import sys

from pipeline.compute.cpu import lacks_avx2
from pipeline.schema.base import MachineError
from pipeline.schema.compute import Compute


def check_compute(compute: Compute) -> None:
    """Refuse a device, a compiler or a kind of CPU that is not there; imports torch for `cuda` alone: 3 s.

    Raises:
        MachineError: it is not there.
    """
    if compute.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise MachineError("params.yaml: compute.device = 'cuda': torch sees no GPU here; allowed are auto and cpu")
    elif compute.portable and lacks_avx2():
        raise MachineError("params.yaml: compute.portable = true: this CPU has no AVX2; set it to false")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")  # as torch chooses it
    if compute.compile and shutil.which(compiler.split(" ")[0]) is None:
        raise MachineError(f"params.yaml: compute.compile = true: needs a C++ compiler, and {compiler!r} is not here")


def choose_device(compute: Compute) -> str:
    """`cpu` or `cuda`, with torch's kernels deterministic from here on, unless `compute` asks for the fastest.

    Raises:
        MachineError: a device, a compiler or a kind of CPU is asked for that is not there.
    """
    check_compute(compute)
    import torch

    if not compute.deterministic:
        torch.set_deterministic_debug_mode("default")
    elif compute.compile:
        torch.use_deterministic_algorithms(True)  # tells the compiler too, and so imports it: 3 s
    else:
        torch.set_deterministic_debug_mode("error")  # the same for all else
    # Not needed for determinism: a debugging aid that costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not compute.deterministic
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = compute.tf32
    return "cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu"
