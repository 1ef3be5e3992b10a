"""One process per GPU, started by torchrun, which share the work of a stage."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from pipeline.schema.compute import Resources


@dataclass(frozen=True)
class Worker:
    """This process among those that share the work."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that reads and writes files."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """Its part of so many items, in order; parts differ by one at most."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def average(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the workers."""
        if self.count > 1:
            value = value.clone()
            distributed.all_reduce(value)
            value /= self.count
        return value

    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Give every worker the leader's values, in place."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Until all workers are here."""
        if self.count > 1:
            distributed.barrier()


def _count_gpus(resources: Resources, device: str) -> int:
    """GPUs that one piece of work may use; 1 on a CPU."""
    available = torch.cuda.device_count() if device == "cuda" else 1
    return available if resources.gpus == "all" else min(resources.gpus, available)


class Workers:
    """A context in which a stage's processes share its work; gives this process's place.

    Started by torchrun, the process joins the others. Else, where more than one GPU may be used, it becomes torchrun on
    its own module and arguments: so that signals reach the workers, and nothing waits in between.

    Args:
        module: that the stage is started as.
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
