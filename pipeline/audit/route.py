"""The way from a site to the norm that follows it, through linear operations."""

from dataclasses import dataclass

from pipeline.audit.joins import Join
from pipeline.audit.operations import NORMS, REDUCTIONS, is_arithmetic, is_linear, is_plain
from pipeline.audit.tape import Operation, Taint, Tape


@dataclass(frozen=True)
class NormFound:
    """A norm: an operation of its own, or arithmetic that is one."""

    kind: str
    entry: int
    """The value that it normalises."""
    output: int
    steps: tuple[Operation, ...]
    reductions: tuple[int, ...] = ()
    """Of arithmetic: the values of its mean, variance and the like."""


@dataclass(frozen=True)
class Route:
    """From a join to the norm behind it; without one, it ends at the join."""

    join: Join
    steps: tuple[Operation, ...]
    """Between them."""
    norm: NormFound | None
    passes: bool
    """Whether what the join gives is used beside the norm, too."""


class Graph:
    """A tape with its links."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.consumers, self.makers = tape.list_consumers(), tape.list_makers()
        self.results = set(tape.results)
        self.held = {id for id, value in enumerate(tape.values) if Taint.DATA not in value.taint}

    def size(self, id: int) -> int:
        """How many numbers a value has."""
        size = 1
        for length in self.tape.values[id].shape:
            size *= length
        return size


def _follow_arithmetic(graph: Graph, entry: int) -> tuple[list[Operation], set[int]]:
    """The arithmetic on a value and constants alone, and what it computes."""
    region, inside = [], {entry}
    waiting = {operation.index: operation for operation in graph.consumers.get(entry, [])}
    while waiting:
        operation = waiting.pop(min(waiting))
        known = all(id in inside or graph.tape.taint(id) is Taint.NONE for id in operation.inputs)
        if not (known and is_arithmetic(operation)):
            continue
        region.append(operation)
        inside |= set(operation.outputs)
        for id in operation.outputs:
            waiting |= {one.index: one for one in graph.consumers.get(id, [])}
    return region, inside


class _Region:
    """The arithmetic on a value, and whether it is a norm: a reduction of the value meets the value again."""

    def __init__(self, graph: Graph, entry: int) -> None:
        self.graph, self.entry, self.size = graph, entry, graph.size(entry)
        operations, self.inside = _follow_arithmetic(graph, entry)
        self.steps: list[Operation] = []
        self.reductions: list[int] = []
        self.reduced: set[int] = set()  # what depends on a reduction
        self.output: Operation | None = None
        self.centred = False
        for operation in operations:
            self._add(operation)

    def _add(self, operation: Operation) -> None:
        own = [id for id in operation.inputs if id in self.inside]
        bare = [id for id in own if id not in self.reduced and self.graph.size(id) == self.size]
        derived = [id for id in own if id in self.reduced]
        whole = [id for id in derived if self.graph.size(id) == self.size]
        if operation.name == "add" and bare and whole:  # a residual sum, behind the norm
            return
        self.steps.append(operation)
        if operation.name in REDUCTIONS and all(self.graph.size(id) < self.size for id in operation.outputs):
            self.reductions += operation.outputs
            self.reduced |= set(operation.outputs)
        elif derived:
            self.reduced |= set(operation.outputs)
            meets = bool(bare) and not is_plain(operation)
            self.centred |= meets and operation.name in ("sub", "rsub", "add")
            if self.graph.size(operation.outputs[0]) == self.size and (meets or self.output is not None):
                self.output = operation

    def close(self) -> NormFound | None:
        """The norm, of the steps that its output needs."""
        if self.output is None:
            return None
        needed, kept = {self.output.outputs[0]}, list[Operation]()
        for operation in reversed(self.steps):
            if needed & set(operation.outputs):
                kept.append(operation)
                needed |= set(operation.inputs)
        reductions = tuple(id for id in self.reductions if id in needed)
        kind = "arithmetic" if self.centred else "rms"
        return NormFound(kind, self.entry, self.output.outputs[0], tuple(reversed(kept)), reductions)


def find_arithmetic_norm(graph: Graph, entry: int) -> NormFound | None:
    """A norm that is written as arithmetic, if that is what follows a value."""
    return _Region(graph, entry).close()


def _starts(norm: NormFound) -> int:
    return norm.steps[0].index


def _find_norm(graph: Graph, start: int) -> tuple[NormFound | None, dict[int, Operation]]:
    """The first norm that a value enters, and the linear operations by what they make."""
    linear: dict[int, Operation] = {}
    moving, tried = {start}, {start}
    found = find_arithmetic_norm(graph, start)
    waiting = {operation.index: operation for operation in graph.consumers.get(start, [])}
    while waiting:
        operation = waiting.pop(min(waiting))
        if found is not None and operation.index >= _starts(found):
            break
        if operation.name in NORMS:
            entry = operation.args[0].id
            if entry in moving:
                found = NormFound(NORMS[operation.name], entry, operation.outputs[0], (operation,))
                break
            continue
        if not is_linear(operation, moving, graph.held):
            continue
        for id in operation.outputs:
            linear[id] = operation
            moving.add(id)
            waiting |= {one.index: one for one in graph.consumers.get(id, [])}
            if not is_plain(operation) and id not in tried:
                tried.add(id)
                found = found or find_arithmetic_norm(graph, id)
    return found, linear


def find_route(graph: Graph, join: Join) -> Route:
    """Follow what a site gives to the norm behind it."""
    norm, linear = _find_norm(graph, join.output)
    if norm is None:
        return Route(join, (), None, passes=False)
    needed, steps = {norm.entry}, list[Operation]()
    for id in sorted(linear, reverse=True):
        operation = linear[id]
        if needed & set(operation.outputs) and operation not in steps:
            steps.append(operation)
            needed |= set(operation.inputs)
    # What moves on the way, and who else takes it.
    route = {operation.index for operation in (*steps, *norm.steps)}
    moving = {join.output, *(id for id in needed if id in linear)}
    others = [one for id in moving for one in graph.consumers.get(id, []) if one.index not in route]
    passes = any(one.outputs and not _is_idle(graph, one) for one in others) or bool(moving & graph.results)
    return Route(join, tuple(sorted(steps, key=lambda one: one.index)), norm, passes)


def _is_idle(graph: Graph, operation: Operation) -> bool:
    """Whether nothing comes of an operation."""
    ahead = list(operation.outputs)
    seen = set(ahead)
    while ahead:
        id = ahead.pop()
        if id in graph.results:
            return False
        for one in graph.consumers.get(id, []):
            new = set(one.outputs) - seen
            seen |= new
            ahead += new
    return True
