"""Splits a stage's work between processes, one per GPU, started by torchrun."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from pipeline.schema.compute import Resources


@dataclass(frozen=True)
class Worker:
    """This process's place among those that share the work."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the worker that reads and writes files."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """This worker's part of `total` items, in order; parts differ by at most one item."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def average(self, value: Tensor) -> Tensor:
        """Mean of a tensor over the workers."""
        if self.count > 1:
            value = value.clone()
            distributed.all_reduce(value)
            value /= self.count
        return value

    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Copy the leader's values to every worker, in place."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Wait until all workers have arrived."""
        if self.count > 1:
            distributed.barrier()


def _count_gpus(resources: Resources, device: str) -> int:
    """Number of GPUs that one stage may use; 1 on a CPU."""
    available = torch.cuda.device_count() if device == "cuda" else 1
    return available if resources.gpus == "all" else min(resources.gpus, available)


class Workers:
    """Context manager in which a stage's processes share its work; gives the `Worker` of this process.

    Under torchrun, the process joins the others. Otherwise, if several GPUs may be used, it replaces itself (exec) by
    torchrun with the same module and arguments. So signals reach the workers, and no extra process waits.

    Args:
        module: the stage's module, for `python -m`.
    """

    def __init__(self, module: str, resources: Resources, device: str) -> None:
        self.module, self.device, self.count = module, device, _count_gpus(resources, device)

    def __enter__(self) -> Worker:
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            if self.count == 1:
                return Worker()
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.count}"]
            os.execv(sys.executable, [*torchrun, "-m", self.module, *sys.argv[1:]])  # noqa: S606
        if self.device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if self.device == "cuda" else "gloo")
        return Worker(distributed.get_rank(), distributed.get_world_size())

    def __exit__(self, *_: object) -> None:
        if distributed.is_initialized():
            distributed.destroy_process_group()
