"""Threads, memory and CPU kernels of a process; to be set before NumPy and torch are imported."""

import ctypes
import os
import platform

from pipeline.compute.cpu import make_portable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEEP_BYTES = 1 << 30
_SPIN_COUNT = 2000  # a few microseconds: nearly the speed of endless spinning alone, and fair beside another process


def tune_process(threads: int = 1, portable: bool = True) -> None:
    """Set thread counts and CPU kernels, keep freed memory in the process; call before NumPy and torch are imported.

    glibc returns big blocks to the kernel, and the page faults that follow make a small training step up to
    four times slower. OpenMP threads that spin for long while idle stall every other process on the same cores
    (a second one makes both 60 times slower), threads that never spin cost a third of the speed of small networks.

    Args:
        threads: small work takes one, whatever params.yaml says: another number would change the last digits.
        portable: whether every x86-64 CPU with AVX2 is to give the same bytes; else presets of the environment hold.
    """
    if portable:
        make_portable()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ.setdefault("GOMP_SPINCOUNT", str(_SPIN_COUNT))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic cuBLAS
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
