"""Forks stages from a process that has imported what takes seconds: torch and other packages, none of our own code.

It reads one JSON object a line: `{"name", "module", "arguments", "log", "environment"}` starts a stage, and
`{"name", "signal"}` sends it a signal. For each stage that ends it writes `{"name", "status"}`. When its input ends,
its stages are asked to end. A stage still runs the code that is on disk: its modules are imported in the child.
"""

import contextlib
import json
import os
import runpy
import select
import signal
import sys
import time
import traceback
from importlib import import_module
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
_OWN = ("pipeline", "stages")
_TICK = 0.05


def _run(task: dict[str, Any]) -> NoReturn:
    """In the child: become the stage."""
    os.setsid()  # a Ctrl-C reaches the driver alone, which asks its stages to end
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(task["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(task["environment"])
    for name in [name for name in sys.modules if name.split(".")[0] in _OWN]:
        del sys.modules[name]  # a stage reads the code that is on disk now
    sys.argv = [task["module"], *task["arguments"]]
    status = 1
    try:
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


def _reap(running: dict[int, str]) -> None:
    """Report the children that have ended."""
    while running:
        pid, state = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        status = os.waitstatus_to_exitcode(state)  # negative: the signal that ended it
        print(json.dumps({"name": running.pop(pid), "status": status}), flush=True)


def main() -> None:
    """Serve until the input ends. Arguments: threads of a stage, and 1 if results must be portable."""
    threads, portable = sys.argv[1:]
    tune_process(int(threads), portable == "1")
    for name in PACKAGES:
        with contextlib.suppress(ImportError):  # a stage that needs it will say so
            import_module(name)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    print(json.dumps({"ready": True}), flush=True)
    running: dict[int, str] = {}
    buffered, open_ = b"", True
    while open_ or running:
        if open_ and select.select([0], [], [], _TICK)[0]:
            chunk = os.read(0, 1 << 16)
            open_, buffered = bool(chunk), buffered + chunk
            *lines, buffered = buffered.split(b"\n")
            for line in lines:
                task = json.loads(line)
                if "signal" in task:
                    for pid, name in running.items():
                        if name == task["name"]:
                            os.kill(pid, task["signal"])
                    continue
                if (pid := os.fork()) == 0:
                    _run(task)
                running[pid] = task["name"]
            if not open_:
                for pid in running:
                    os.kill(pid, signal.SIGTERM)
        elif not open_:
            time.sleep(_TICK)
        _reap(running)


if __name__ == "__main__":
    main()
