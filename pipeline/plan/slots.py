"""Where stages run: in slots of this machine, forked from a warm process, or as processes of their own on a GPU."""

import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from pipeline.plan.pool import HEAVY, Ended, find_log
from pipeline.schema.compute import Compute

_CAN_FORK = sys.platform == "linux"
"""Elsewhere system libraries do not survive a fork: there each stage is a process of its own."""


def count_slots(compute: Compute) -> int:
    """Physical cores over the threads of a stage, at least 1."""
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    return max(1, cores // compute.threads)


def list_gpus(compute: Compute) -> list[str]:
    """Ids of this machine's GPUs; none if params.yaml says `cpu`. Asks the driver's tool, which imports no torch."""
    if compute.device == "cpu":
        return []
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [gpu for gpu in found if visible is None or gpu in visible.split(",")]


class Slots:
    """Runs stages: `slots` at once on the CPU, and one on each GPU.

    Args:
        root: of the project.
        slots: how many stages run at once on the CPU.
        gpus: ids of the GPUs; none: all stages run on the CPU.
    """

    def __init__(self, root: Path, compute: Compute, slots: int, gpus: Sequence[str]) -> None:
        self.root, self.compute, self.count = root, compute, slots
        (root / "logs").mkdir(exist_ok=True)
        self._free_gpus, self._uses_gpu = list(gpus), bool(gpus)
        self._forked: set[str] = set()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._gpu_of: dict[str, str] = {}
        self._nursery: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def _needs_gpu(self, name: str) -> bool:
        return self._uses_gpu and name.startswith(HEAVY)

    def has_room(self, name: str) -> bool:
        """Whether a stage can start now."""
        if self._needs_gpu(name):
            return bool(self._free_gpus)
        return len(self._forked) + len(self._processes) - len(self._gpu_of) < self.count

    def start(self, name: str, command: str) -> None:
        """Start a stage, whose output goes to its log."""
        environment = {"DVC_STAGE": name, "DVC_ROOT": str(self.root), "PIPELINE_DVC_PID": str(os.getpid())}
        words = shlex.split(command)
        if self._needs_gpu(name):
            self._gpu_of[name] = environment["CUDA_VISIBLE_DEVICES"] = self._free_gpus.pop(0)
        elif self._uses_gpu:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        if _CAN_FORK and words[:2] == ["python", "-m"] and name not in self._gpu_of:
            task = {"name": name, "module": words[2], "arguments": words[3:], "environment": environment}
            self._tell({**task, "log": str(find_log(self.root, name))})
            self._forked.add(name)
            return
        with find_log(self.root, name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=self.root,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _tell(self, message: dict[str, object]) -> None:
        """Send a line to the process that forks; start it if it does not run."""
        if self._nursery is None:
            command = [sys.executable, "-m", "pipeline.run.nursery"]
            command += [str(self.compute.threads), str(int(self.compute.portable))]
            self._nursery = subprocess.Popen(
                command, cwd=self.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            assert self._nursery.stdout is not None
            os.set_blocking(self._nursery.stdout.fileno(), False)
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(json.dumps(message).encode() + b"\n")
        self._nursery.stdin.flush()

    def collect(self) -> list[Ended]:
        """The stages that have ended since the last call."""
        ended = []
        for name, process in list(self._processes.items()):
            if (status := process.poll()) is not None:
                ended.append(Ended(name, status))
                del self._processes[name]
                if name in self._gpu_of:
                    self._free_gpus.append(self._gpu_of.pop(name))
        if self._nursery is None:
            return ended
        assert self._nursery.stdout is not None
        while chunk := self._nursery.stdout.read(1 << 16):
            self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        for message in map(json.loads, lines):
            if "name" in message:
                self._forked.discard(message["name"])
                ended.append(Ended(message["name"], message["status"]))
        if self._nursery.poll() is not None:  # killed: its stages end with it
            ended += [Ended(name, -signal.SIGKILL) for name in self._forked]
            self._forked.clear()
            self._nursery = None
        return ended

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until a forked stage has ended."""
        ended = [] if self._nursery is None or self._nursery.stdout is None else [self._nursery.stdout]
        select.select(ended, [], [], seconds)

    def send(self, number: int) -> None:
        """Send a signal to every stage that runs."""
        for process in self._processes.values():
            os.killpg(process.pid, number)
        for name in self._forked:
            self._tell({"name": name, "signal": number})

    def close(self) -> None:
        """End the process that forks, once no stage runs."""
        if self._nursery is not None:
            assert self._nursery.stdin is not None
            self._nursery.stdin.close()
            self._nursery.wait()
