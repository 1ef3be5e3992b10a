"""Identifies the CPU, and sets the variables under which all x86-64 CPUs with AVX2 compute the same bytes.

Imports no NumPy: the variables must be set before it is loaded.
"""

import hashlib
import os
import platform
import sys
from pathlib import Path

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # its convolutions
    "MKL_CBWR": "COMPATIBLE",  # torch's matrix products; no other value holds across CPU vendors
    "OPENBLAS_CORETYPE": "Haswell",  # linear algebra of NumPy and SciPy, as in the FID
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # NumPy's exp and log: all features above X86_V3
}
"""Environment variables for portable results. Each library reads its own while it is loaded."""
_LIBRARIES = ("ATEN_", "DNNL_", "MKL_", "NPY_", "ONEDNN_", "OPENBLAS_")
_INFO, _CACHES = Path("/proc/cpuinfo"), Path("/sys/devices/system/cpu/cpu0/cache")


def _read_info() -> dict[str, str]:
    """Entries of /proc/cpuinfo for the first CPU; empty if there is no such file."""
    try:
        first = _INFO.read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def name_cpu() -> str:
    """The CPU's model name on Linux (it may name only a series); elsewhere the architecture."""
    return _read_info().get("model name") or platform.processor() or platform.machine()


def describe_cpu() -> str:
    """A description that differs between CPUs that may round differently.

    It holds vendor, family/model/stepping, cache sizes, and a digest of the feature flags.
    """
    info = _read_info()
    if "vendor_id" not in info:  # not Linux, or not x86
        return name_cpu()
    numbers = "/".join(info.get(key, "?") for key in ("cpu family", "model", "stepping"))
    parts = [f"{info['vendor_id']} {numbers}"]
    for cache in sorted(_CACHES.glob("index*")):
        try:
            level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:  # a virtual machine may hide caches
            continue
        parts.append(f"L{level}{kind[0].lower() if kind in ('Data', 'Instruction') else ''} {size}")
    flags = " ".join(sorted(info.get("flags", "").split()))
    return ", ".join([*parts, f"flags {hashlib.sha256(flags.encode()).hexdigest()[:8]}"])


def lacks_avx2() -> bool:
    """Whether this is an x86-64 CPU without AVX2; False if its flags are not known."""
    flags = _read_info().get("flags", "").split()
    return _is_x86() and bool(flags) and "avx2" not in flags


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def is_portable() -> bool:
    """Whether this process gives the same bytes as on every other x86-64 CPU with AVX2: `PORTABLE`, one thread."""
    return _is_x86() and PORTABLE.items() <= os.environ.items() and os.environ.get("OMP_NUM_THREADS") == "1"


def make_portable() -> None:
    """Set `PORTABLE`, and unset other variables of these libraries; call it before they are loaded.

    Does nothing on another architecture, or without AVX2: there the settings would cause an illegal instruction.
    """
    if not _is_x86() or lacks_avx2():
        return
    foreign = {
        name
        for name in os.environ
        if name.startswith(_LIBRARIES) and name not in PORTABLE and not name.endswith("_NUM_THREADS")
    }
    if not foreign and PORTABLE.items() <= os.environ.items():
        return  # inherited from the parent process
    assert not {"numpy", "torch"} & sys.modules.keys(), "too late: these were read when the library was loaded"
    for name in foreign:
        del os.environ[name]
    os.environ.update(PORTABLE)
