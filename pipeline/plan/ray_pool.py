"""Stages as tasks of a Ray cluster, whose machines share the project's folder."""

import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.plan.pool import Ended, begin_log, log_problem, write_mark
from pipeline.run import remote
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute

_LOOK_SECONDS = 2.0
"""Between two looks at how large the cluster is."""
_RETRIES = 3
"""Times that a stage is started anew after its machine was lost; it goes on from its checkpoint."""


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise SpecError("--ray: Ray is not installed here: pip install '.[cluster]'") from None
    return ray


def _explain(error: Exception) -> str:
    """Why a task did not end by itself, in one line."""
    return " ".join(str(getattr(error, "cause", None) or error).split())


@contextmanager
def _hold_stderr() -> Iterator[list[str]]:
    """What Ray's C++ core writes to standard error, a line a second while it tries: kept for the caller instead."""
    said: list[str] = []
    with tempfile.TemporaryFile("w+") as kept:
        standard = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(standard, 2)
            os.close(standard)
            kept.seek(0)
            said += kept.read().splitlines()


class RayPool:
    """One task a stage: on a GPU each, or on as many CPUs as a stage has threads.

    Args:
        address: HOST:PORT of the head node, or `auto`: the cluster that this machine belongs to.

    Raises:
        SpecError: Ray is not installed, there is no such cluster, it cannot run a stage, or one of its machines does
            not see the project's folder.
    """

    def __init__(self, root: Path, compute: Compute, address: str) -> None:
        self._ray = _import_ray()
        self._root = root
        self._mark, self._token = write_mark(root)
        host, colon, port = address.rpartition(":")
        with _hold_stderr() as said:
            try:
                if colon:  # Ray itself tries for ten minutes
                    socket.create_connection((host, int(port)), timeout=10).close()
                self._ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
                problem = ""
            except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
                problem = str(error).strip().splitlines()[0]
        if problem:
            if any("Unauthenticated" in line for line in said):
                problem = "it wants the head node's token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as there"
            raise SpecError(f"--ray {address}: {problem}")
        self._ray.cloudpickle.register_pickle_by_value(remote)  # a machine without the folder can say so
        gpus = compute.device != "cpu" and self._ray.cluster_resources().get("GPU", 0) >= 1
        self._share = ("GPU", 1) if gpus or compute.device == "cuda" else ("CPU", compute.threads)
        self._tasks: dict[Any, str] = {}
        self._asked = False
        self._looked, self._capacity = float("-inf"), 0
        try:
            if not self._count_capacity():
                kind, number = self._share
                raise SpecError(f"--ray {address}: no machine there has {number} {kind}, which a stage needs")
            self._look_around()
        except BaseException:
            self.close()
            raise

    def _submit(self, function: Any, *arguments: Any, **options: Any) -> Any:
        # max_calls = 0: the process that only watches a stage serves many; GPU tasks would get a new one each.
        return self._ray.remote(max_calls=0, max_retries=_RETRIES, **options)(function).remote(*arguments)

    def _look_around(self) -> None:
        """Have each machine look whether it sees the project's folder."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        kind, number = self._share
        for node in self._ray.nodes():
            if node["Alive"] and node["Resources"].get(kind, 0) >= number:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                arguments = (self._root, self._mark, self._token)
                task = self._submit(remote.check_folder, *arguments, num_cpus=0, scheduling_strategy=there)
                try:
                    self._ray.get(task)
                except self._ray.exceptions.RayError as error:
                    raise SpecError(f"--ray: {_explain(error)}") from None

    def _count_capacity(self) -> int:
        """How many stages the cluster has room for; machines may join and leave."""
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            kind, number = self._share
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._capacity = sum(int(node.get(kind, 0) // number) for node in nodes)
            self._looked = time.monotonic()
        return self._capacity

    @property
    def count(self) -> int:
        """Stages that the cluster runs at once, now."""
        return max(1, self._count_capacity())

    def has_room(self, name: str) -> bool:
        """Whether the cluster has; if all machines were lost, one stage waits there for the next."""
        return len(self._tasks) < self.count

    def start(self, name: str, command: str) -> None:
        """Hand a stage to Ray."""
        kind, number = self._share
        log = begin_log(self._root, name)
        stage = remote.RemoteStage(
            self._root, name, command, log, self._mark, self._token, gpu=kind == "GPU", asks=signal.SIGINT
        )
        options = {"num_gpus": 1, "num_cpus": 0} if kind == "GPU" else {"num_cpus": number}
        self._tasks[self._submit(remote.run, stage, name=name, **options)] = name

    def collect(self) -> list[Ended]:
        """The stages that have ended since the last call. Where Ray gave one up, its log says why."""
        if not self._tasks:
            return []
        done, _ = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0, fetch_local=False)
        ended = []
        for task in done:
            name = self._tasks.pop(task)
            try:
                ended.append(Ended(name, self._ray.get(task)))
            except self._ray.exceptions.TaskCancelledError:
                ended.append(Ended(name, -signal.SIGTERM))
            except self._ray.exceptions.RayError as error:
                log_problem(self._root, name, _explain(error))
                ended.append(Ended(name, -signal.SIGKILL if self._asked else 1))
        return ended

    def wait(self, seconds: float) -> None:
        """Sleep so long."""
        time.sleep(seconds)

    def send(self, number: int) -> None:
        """Cancel the tasks: their stages get SIGTERM; or end the processes that watch them, and so the stages."""
        self._asked = True
        for task in self._tasks:
            self._ray.cancel(task, force=number == signal.SIGKILL)

    def close(self) -> None:
        """Leave the cluster; what still runs there for this process ends."""
        self._ray.shutdown()
