"""Runs a stage: one-line errors, ending with DVC, provenance. Imports no torch."""

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from io import TextIOWrapper
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

import psutil
from safetensors import SafetensorError

from pipeline.compute.cpu import describe_cpu, is_portable, name_cpu
from pipeline.run.inputs import ROOT, check_inputs, require_closure, runs_under_dvc
from pipeline.run.machine import check_links
from pipeline.schema.base import MachineError
from pipeline.schema.compute import Compute
from pipeline.schema.files import write_json
from pipeline.schema.study import find_study

_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "ALLOC_FAILED")  # torch, CUDA, C++, cuBLAS
_STARTED = time.monotonic()
_SOURCES = ("pipeline", "stages", "networks", "specs", "params.yaml", "dvc.yaml")
_SHELLS = {"sh", "ash", "bash", "busybox", "dash", "fish", "ksh", "zsh"}
_DVC = "PIPELINE_DVC_PID"
_WATCH_SECONDS = 0.5
_MAKERS = {
    "data": "fetch_{study}",
    "runs": "train_{study}_{case}",
    "samples": "sample_{case}",
    "extractors": "extractor",
    "references": "reference",
    "evaluations": "{step}_{study}_{case}",
    "records": "record_{study}",
}
"""By the folder of an output: the stage of dvc.yaml that makes it."""


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def _find_dvc() -> psutil.Process | None:
    """The DVC process that launched this stage; None if it has exited."""
    if (known := os.environ.get(_DVC)) is not None:  # a worker of torchrun, which is not DVC's own child
        return psutil.Process(int(known)) if psutil.pid_exists(int(known)) else None
    # Shells that wait for their command may stand between DVC and this process.
    found = next((process for process in psutil.Process().parents() if process.name() not in _SHELLS), None)
    if found is None or (found.pid == 1 and "dvc" not in " ".join(found.cmdline())) or found.name() == "systemd":
        return None  # DVC has exited, and init or systemd has adopted this process
    return found


def _watch(process: psutil.Process) -> None:
    """Send SIGTERM to this process as soon as another one has exited."""
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _end_with_dvc() -> None:
    """Get SIGTERM when DVC exits. Otherwise its next run would start a second training beside this one."""
    try:
        dvc = _find_dvc()
    except psutil.Error:  # it is exiting right now
        dvc = None
    if dvc is None:
        _fail("DVC, which started this stage, has ended")
    os.environ[_DVC] = str(dvc.pid)
    Thread(target=_watch, args=(dvc,), daemon=True).start()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on GPU or CPU; recognised by message, since torch has an error type for GPUs only."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(said in str(error) for said in _OUT_OF_MEMORY)
    )


def find_maker(path: Path) -> str | None:
    """The stage of dvc.yaml that makes an output, FOLDER/STUDY/CASE/... or FOLDER/CASE/...; None: it is no run's."""
    folder, *parts = path.parts or ("",)
    name = _MAKERS.get(folder)
    if name is None or "{" not in name:
        return name
    if len(parts) < 2:
        return None
    study, case = parts[:2]
    step = find_study(study).steps[-1] if "{step}" in name else ""
    return name.format(study=study, case=case, step=step)


def _explain(error: BaseException) -> str:
    """The line about an error; of an output that is not there, which stage makes it."""
    named = error.filename if isinstance(error, OSError) else str(error).partition(": ")[0]
    path = Path(str(named))
    if (maker := find_maker(path)) is None or path.exists():
        return str(error)
    return f"{path}: not there; `dvc repro {maker}` makes it"


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage or command. An error that the user can fix ends in one line on stderr and status 1.

    Under DVC, a stage refuses to run if its code differs from closures/. Its result counts only if code and settings
    are unchanged at its end. PIPELINE_TRACEBACK=1 shows tracebacks.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # if the terminal's encoding lacks ±, print ? instead of failing
    file = Path(sys.argv[0])
    if runs_under_dvc():
        # Ctrl-C ends the process at once: KeyboardInterrupt may get lost while torch is imported. Trainings handle
        # SIGINT themselves, later on.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _end_with_dvc()
    try:
        if runs_under_dvc():
            check_links(ROOT)
            if file.stem not in ("check", "measure"):  # `check` writes closures; `measure` uses its study's closure
                require_closure(file.stem)
        main()
        check_inputs()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (ValueError, ArithmeticError, OSError, RuntimeError, MemoryError, SafetensorError) as error:
        if isinstance(error, MachineError) and runs_under_dvc():
            _fail(f"{error}; then `dvc checkout` brings back what DVC has removed")
        memory = is_out_of_memory(error)
        if os.environ.get("PIPELINE_TRACEBACK") or (isinstance(error, RuntimeError) and not memory):
            raise
        _fail(f"out of memory: {error}".partition("\n")[0] if memory else _explain(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _git_revision() -> str:
    """Git revision of the checkout; `-dirty` if code or settings, as opposed to results, differ from it."""
    name = ["git", "describe", "--always", "--abbrev=12"]
    compare = ["git", "diff", "--quiet", "HEAD", "--", *_SOURCES]
    try:
        revision = subprocess.run(name, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(compare, capture_output=True, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{revision}-dirty" if changed else revision


def _package_versions(*packages: str) -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def hash_output(path: Path) -> str:
    """DVC's hash of a file or folder: the `md5` of an output in dvc.lock."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    files = sorted((part.relative_to(path).as_posix(), part) for part in path.rglob("*") if part.is_file())
    listed = [{"md5": hash_output(part), "relpath": name} for name, part in files]
    text = json.dumps(listed, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def restart_clock() -> None:
    """Count seconds from now: this process was forked from one that had imported this module."""
    global _STARTED
    _STARTED = time.monotonic()


def count_seconds() -> float:
    """Seconds since this process started, by the monotonic clock."""
    return time.monotonic() - _STARTED


def write_provenance(name: str, output: Path, compute: Compute, earlier: float = 0, **facts: Any) -> None:
    """Write wall time, host, versions and settings of a stage to provenance/NAME.json.

    The stage `record` keeps part of it in the ledger.

    Args:
        output: the stage's output file or folder.
        earlier: seconds that earlier, interrupted processes spent on it.
        facts: further entries.
    """
    torch = sys.modules.get("torch")
    record = {
        "output": hash_output(output),
        "seconds": round(earlier + count_seconds(), 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "git": _git_revision(),
        "host": platform.node(),
        "machine": platform.platform(),
        "processor": name_cpu(),
        "cpu": describe_cpu(),
        "portable": is_portable(),
        "python": platform.python_version(),
        "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
        "compute": compute.model_dump(),
        "packages": _package_versions("torch", "torchdiffeq", "torchvision", "torch-fidelity", "numpy", "dvc"),
        **facts,
    }
    write_json(Path("provenance") / f"{name}.json", record)
