"""FLOPs of a call, counted while it runs."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker


class _NoTracker(ModuleTracker):
    """Counts one total, not per module: module hooks fail inside the gradients of a solve."""

    def __enter__(self) -> "_NoTracker":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def count_flops(work: Callable[[], object]) -> int:
    """FLOPs of a call: forward and backward, inside autograd functions too. A multiply-add counts as two."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoTracker()
    with counter:
        work()
    return counter.get_total_flops()
