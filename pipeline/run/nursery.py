"""Forks stages from a process that has done what takes each of them seconds: imports, and reading the settings.

It reads one JSON object a line: `{"name", "module", "arguments", "log", "environment"}` starts a stage, and
`{"name", "signal"}` sends it a signal. For each stage that ends it writes `{"name", "status"}`. When its input ends,
its stages are asked to end. A stage runs the code that is on disk: if a file of the project's code has changed since it
was imported, this process begins anew before it forks, and keeps its children.
"""

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from pipeline.compute.threads import tune_process

PACKAGES = (
    "torch",
    "torch._dynamo",  # an optimiser imports it with its first step
    "numpy",
    "scipy.linalg",
    "scipy.special",
    "matplotlib.backends.backend_pdf",
    "sklearn.datasets",
    "pydantic",
    "ruamel.yaml",
    "safetensors.torch",
    "psutil",
)
"""Imported before the first stage. None starts a thread or a GPU's context, which would not survive a fork."""
_OWN = ("pipeline", "stages", "networks")
_TICK = 0.05


def _stamp_code() -> dict[str, tuple[int, int]]:
    """When each file of the project's code was last written, and its size."""
    found, folders = dict[str, tuple[int, int]](), [*_OWN]
    while folders:  # twice as fast as `Path.rglob`, and this comes before every stage
        with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:  # it has just gone
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.name.endswith(".py"):
                    found[entry.path] = entry.stat().st_mtime_ns, entry.stat().st_size
    return found


def _import_code() -> None:
    """Import the project's code, and parse the settings, which `read_yaml` keeps by their text."""
    with contextlib.suppress(Exception, SystemExit):  # a stage that meets the mistake says so
        for folder in ("pipeline", "stages"):
            for path in sorted(Path(folder).rglob("[!_]*.py")):
                import_module(".".join(path.with_suffix("").parts))
        import_module("pipeline.schema.project").load_project(Path())


def _run(task: dict[str, Any]) -> NoReturn:
    """In the child: become the stage."""
    os.setsid()  # a Ctrl-C reaches the driver alone, which asks its stages to end
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(task["environment"])
    sys.modules.pop(task["module"], None)  # it is run as the main module
    sys.argv = [task["module"], *task["arguments"]]
    status = 1
    try:
        import_module("pipeline.run.process").restart_clock()
        runpy.run_module(task["module"], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _reap(running: dict[int, str], out: int) -> None:
    """Report the children that have ended."""
    while running:
        pid, state = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        status = os.waitstatus_to_exitcode(state)  # negative: the signal that ended it
        os.write(out, json.dumps({"name": running.pop(pid), "status": status}).encode() + b"\n")


def _hear_children() -> int:
    """A descriptor that can be read once a child has ended."""
    heard, told = os.pipe()
    for end in (heard, told):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    return heard


def main() -> None:
    """Serve until the input ends.

    Arguments: threads of a stage, and 1 if results must be portable. Then, if it begins anew, its children by pid, and
    input that it has read but not yet followed.
    """
    threads, portable, *earlier = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    out = os.dup(1)
    os.dup2(2, 1)  # what an import prints is no answer
    tune_process(int(threads), portable == "1")
    for name in PACKAGES:
        with contextlib.suppress(ImportError):  # a stage that needs it will say so
            import_module(name)
    code = _stamp_code()
    _import_code()
    gc.freeze()  # a child that collects garbage would copy all of this
    heard = _hear_children()
    running = {int(pid): name for pid, name in json.loads(earlier[0]).items()} if earlier else {}
    buffered, open_ = earlier[1].encode() if earlier else b"", True
    while open_ or running:
        while b"\n" in buffered:
            line, _, rest = buffered.partition(b"\n")
            task = json.loads(line)
            if "signal" in task:
                for pid, name in running.items():
                    if name == task["name"]:
                        os.kill(pid, task["signal"])
            else:
                if _stamp_code() != code:
                    again = ["-m", "pipeline.run.nursery", threads, portable, json.dumps(running), buffered.decode()]
                    os.dup2(out, 1)
                    os.execv(sys.executable, [sys.executable, *again])  # noqa: S606
                if (pid := os.fork()) == 0:
                    _run(task)
                running[pid] = task["name"]
            buffered = rest
        ready = select.select([0, heard] if open_ else [heard], [], [], _TICK)[0]
        if heard in ready:
            os.read(heard, 1 << 16)
        if 0 in ready:
            chunk = os.read(0, 1 << 16)
            open_, buffered = bool(chunk), buffered + chunk
            if not open_:
                for pid in running:
                    os.kill(pid, signal.SIGTERM)
        _reap(running, out)
    os._exit(0)  # an ordinary exit has packages tell what they leak


if __name__ == "__main__":
    main()
