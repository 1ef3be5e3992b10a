"""Runs a stage on another machine of a cluster, in the same project folder. Needs the standard library alone.

There it is a process beside which another one stands guard (`python -m pipeline.run.remote COMMAND...`): what started
it can end in any way, and the stage ends with it.
"""

import contextlib
import ctypes
import os
import platform
import select
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

_TICK = 0.1
_PR_SET_PDEATHSIG = 1
"""Of <linux/prctl.h>."""


def check_folder(root: Path, mark: Path, token: str) -> None:
    """Refuse a machine that does not see the driver's own folder, but none, or another copy.

    Args:
        mark: a file that the driver wrote there.
        token: its content.

    Raises:
        OSError: with the machine's name.
    """
    try:
        found = mark.read_text(encoding="utf-8")
    except OSError:
        found = ""
    if found != token:
        raise OSError(f"{platform.node()} does not see the project's folder {root}: all machines must share it")


@dataclass
class RemoteStage:
    """A stage to be run elsewhere: call it there."""

    root: Path
    name: str
    command: str
    log: Path
    mark: Path
    """Of `check_folder`, and so is the token."""
    token: str
    gpu: bool
    """Whether it was given a GPU; else it sees none."""
    asks: signal.Signals
    """The signal by which the cluster asks the calling process to end."""
    _guard: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _status: int | None = None

    def __call__(self) -> int:
        """Run it to its end. Only the main thread may call it.

        Returns:
            its exit status; negative: the signal that ended it.

        Raises:
            OSError: this machine does not see the project's folder.
        """
        if self._status is not None:
            return self._status
        check_folder(self.root, self.mark, self.token)
        environment = {"DVC_STAGE": self.name, "DVC_ROOT": str(self.root), "PIPELINE_DVC_PID": str(os.getpid())}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        if not self.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        words = shlex.split(self.command)
        if words[:2] != ["python", "-m"]:
            words = ["/bin/sh", "-c", self.command]
        with self.log.open("ab") as log:  # a stage that lost its machine goes on in the same log
            guard = self._guard = subprocess.Popen(
                [sys.executable, "-m", "pipeline.run.remote", *words],
                cwd=self.root,
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Ray interrupts the main thread, in which the signal may be ignored: a shell starts what ends in & that way.
        before = signal.signal(self.asks, lambda *_: self.ask())
        try:
            while (status := guard.poll()) is None:
                time.sleep(_TICK)
        finally:
            signal.signal(self.asks, before)
        return status

    def ask(self) -> None:
        """Ask the stage to end, so that it saves its state."""
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it has just ended
                os.write(self._guard.stdin.fileno(), b"\n")

    def end(self) -> None:
        """Ask the stage to end, and wait for it. Called again, it goes on, unless it was done."""
        self.ask()
        if self._guard is not None and self._guard.wait() == 0:
            self._status = 0
        self._guard = None


def run(stage: RemoteStage) -> int:
    """Call a stage: a function, as Ray wants its tasks."""
    return stage()


def _die_with_parent() -> None:
    """Linux: this process gets SIGKILL when its parent ends, as Ray may kill whatever is below a worker."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _guard(command: list[str]) -> NoReturn:
    """Run a command; pass on to it what the input says, and end with it, in the same way."""
    stage = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent)
    for number in (signal.SIGINT, signal.SIGTERM):  # Slurm sends them to every process of a job
        signal.signal(number, signal.SIG_IGN)
    while stage.poll() is None:
        if select.select([0], [], [], _TICK)[0]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(stage.pid, signal.SIGTERM if os.read(0, 1) else signal.SIGKILL)
    _end_alike(stage.returncode)


def _end_alike(status: int) -> NoReturn:
    """End this process as another one has ended: with a status, or by a signal."""
    if status < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def main() -> None:
    """Run the command of the arguments.

    A byte of the input is SIGTERM for the command. The input's end is SIGKILL: the command may be running again
    elsewhere already. Ray kills the children of a worker that it ends, so the guard is a grandchild.
    """
    if (guard := os.fork()) == 0:
        _guard(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _end_alike(os.waitstatus_to_exitcode(os.waitpid(guard, 0)[1]))


if __name__ == "__main__":
    main()
