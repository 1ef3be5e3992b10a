"""The sites of a network: where a tensor of the time alone meets one that depends on the data."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.audit.operations import Kind, classify, is_plain
from pipeline.audit.tape import Operation, Taint, Tape

_TOGETHER: dict[tuple[Kind, Kind], Kind] = {
    ("added", "added"): "added",
    ("gate", "gate"): "gate",
    ("gate", "added"): "scale-shift",
    ("added", "gate"): "scale-shift",
    ("scale-shift", "added"): "scale-shift",
    ("scale-shift", "gate"): "scale-shift",
}
"""What two joins are of which the second takes the first one's output."""


@dataclass(frozen=True)
class Join:
    """A site."""

    kind: Kind
    steps: tuple[Operation, ...]
    """The operations that join, and what only moves numbers between them."""
    times: tuple[int, ...]
    """The values of the time alone that enter."""
    data: int
    """The value that they meet."""

    @property
    def output(self) -> int:
        """The value in which they are joined."""
        return self.steps[-1].outputs[0]

    @property
    def path(self) -> str:
        """The module that holds it."""
        return self.steps[0].path


def list_times(tape: Tape, operation: Operation) -> list[int]:
    """The inputs of an operation that depend on the time alone."""
    return [id for id in dict.fromkeys(operation.inputs) if tape.taint(id) is Taint.TIME]


def _joins(tape: Tape, operation: Operation) -> bool:
    """Whether an operation's output depends on both, and one of its inputs on the time alone."""
    met = any(Taint.DATA in tape.taint(id) for id in operation.inputs)
    both = Taint.TIME | Taint.DATA
    joined = any(tape.taint(id) == both and tape.values[id].floating for id in operation.outputs)
    return met and joined and bool(list_times(tape, operation))


def _continue(
    tape: Tape, consumers: dict[int, list[Operation]], operation: Operation
) -> Iterator[tuple[Operation, ...]]:
    """What directly follows: the plain operations up to a join that takes their output, where nothing else does."""
    passed: list[Operation] = []
    following = consumers.get(operation.outputs[0], [])
    while len(following) == 1:
        (operation,) = following
        passed.append(operation)
        if _joins(tape, operation):
            yield tuple(passed)
            return
        if not is_plain(operation) or len(operation.outputs) != 1:
            return
        following = consumers.get(operation.outputs[0], [])


def find_joins(tape: Tape) -> list[Join]:
    """All sites, in the order in which they run; joins that directly follow each other are one."""
    consumers = tape.list_consumers()
    found: list[Join] = []
    taken: set[int] = set()
    for operation in tape.operations:
        if operation.index in taken or not _joins(tape, operation):
            continue
        times = list_times(tape, operation)
        data = next(id for id in operation.inputs if Taint.DATA in tape.taint(id))
        kind, steps = classify(operation, times), [operation]
        while further := next(_continue(tape, consumers, steps[-1]), ()):
            told = list_times(tape, further[-1])
            both = _TOGETHER.get((kind, classify(further[-1], told)))
            if both is None:
                break
            kind, steps, times = both, [*steps, *further], [*times, *told]
            taken |= {one.index for one in further}
        found.append(Join(kind, tuple(steps), tuple(dict.fromkeys(times)), data))
    return found
