"""Sets threads, memory allocation and CPU kernels of a process. Call it before NumPy and torch are imported."""

import ctypes
import os
import platform

from pipeline.compute.cpu import make_portable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEEP_BYTES = 1 << 30
_SPIN_COUNT = 2000  # a few microseconds: nearly as fast as endless spinning, without blocking other processes


def tune_process(threads: int = 1, portable: bool = True) -> None:
    """Set thread counts and CPU kernels, and keep freed memory in the process.

    Memory: glibc returns big blocks to the kernel. The page faults that follow make a small training step up to four
    times slower. Threads: OpenMP threads that spin long while idle stall other processes on the same cores (two such
    processes are 60 times slower each); without any spinning, small networks lose a third of their speed.

    Args:
        threads: CPU threads. The default suits small work; another number changes the last digits.
        portable: whether every x86-64 CPU with AVX2 must give the same bytes. If not, the environment's own settings
            of these libraries stay.
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
