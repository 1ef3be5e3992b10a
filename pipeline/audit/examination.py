"""The audit of a network that anyone wrote: where time enters, what survives, how well times are told apart.

An audit goes through the files of this room in this order:

    target, builtin, library              the network that the command line names, and example inputs
    adapters, call                        which argument is the time, which are the data; at which times
    subject, recorder, tape               a copy of the network; the operations of a pass, and what each depends on
    operations, joins, route              where time meets data, and the way from there to the norm behind
    replay, freeze, survival              both again in float64: what the time changes, and what of it survives
    timeline, embedding, forms            how well times are told apart, and in other types
    objective, images, probe, behaviour   what a trained network makes of a wrong time
    findings, conclusion                  the numbers, and the verdict that follows from them
    screen, audit_page, command           how they are shown

`site`, `outline` and `architecture` are of our own networks, whose parameters are known by name: for the schematic.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.audit.adapters import find_adapter, guess, spread_times
from pipeline.audit.behaviour import measure_behaviour
from pipeline.audit.call import Call, bind_call
from pipeline.audit.embedding import find_embedding, list_squashed, measure_embedding
from pipeline.audit.findings import Audit, Behaviour, EmbeddingFacts, OutputFacts, SiteFacts
from pipeline.audit.forms import try_forms
from pipeline.audit.joins import find_joins
from pipeline.audit.objective import Loss, Teller, make_loss
from pipeline.audit.replay import TimeGraph
from pipeline.audit.route import Graph, Route, find_route
from pipeline.audit.subject import (
    Prepared,
    copy_network,
    first_line,
    keep_randomness,
    keep_state,
    prepare_subject,
    unwrap,
)
from pipeline.audit.survival import list_held, measure_site
from pipeline.audit.tape import Tape
from pipeline.audit.timeline import Timeline, check_finite, refuse_errors
from pipeline.schema.base import SpecError

RESOLVED = 101
"""Times, from the first to the last, over which the embedding's rank is measured."""


def _check_times(times: Sequence[float], at: float | None) -> tuple[list[float], float]:
    try:
        values = [float(t) for t in times]
    except (TypeError, ValueError):
        raise SpecError(f"times = {times!r}: numbers are needed") from None
    if not all(map(math.isfinite, [*values, 0.0 if at is None else at])):
        raise SpecError(f"times = {values}: finite numbers are needed")
    if len(set(values)) < 2:
        raise SpecError(f"times = {values}: at least two different ones are needed")
    return values, values[len(values) // 2] if at is None else float(at)


def _measure_change(pairs: Sequence[tuple[Tensor, Tensor]]) -> float | None:
    """||f(t') - f(t)|| / ||f(t)|| over all outputs, of pairs (f(t), f(t')); None: f(t) is 0."""
    if not any(one.any() for one, _ in pairs):
        return None
    change = sum(float((two.double() - one.double()).square().sum()) for one, two in pairs)
    return math.sqrt(change / sum(float(one.double().square().sum()) for one, _ in pairs))


def _name_sites(routes: Sequence[Route], network: nn.Module) -> list[str]:
    """By module; several in one module are numbered."""
    paths = [route.join.path or type(network).__name__ for route in routes]
    total, seen, names = Counter(paths), Counter[str](), []
    for path in paths:
        seen[path] += 1
        names.append(f"{path} #{seen[path]}" if total[path] > 1 else path)
    return names


def _note_reads(tape: Tape) -> list[str]:
    where = ", ".join(dict.fromkeys(path or "the network" for path in tape.reads))
    return (
        [f"the time is read as a Python number in {where}: what is made of that is not followed"] if tape.reads else []
    )


class _Examination:
    """An audit under way: the network has run once, so that its structure is known."""

    def __init__(self, prepared: Prepared, at: float) -> None:
        self.subject, self.tape, self.at = prepared.subject, prepared.tape, at
        if not prepared.outputs:
            raise SpecError(f"{type(self.subject.network).__name__} returns no tensor: there is nothing to measure")
        check_finite(prepared.outputs, "the network's output", at)
        self.graph = Graph(self.tape)
        self.routes = [find_route(self.graph, join) for join in find_joins(self.tape)]
        self.told = list(dict.fromkeys(id for route in self.routes for id in route.join.times))
        self.first = find_embedding(self.graph)
        self.timeline = Timeline(self.subject, self.tape, {*self.told, self.first, *list_squashed(self.graph)}, at)
        self.embedder = TimeGraph(self.tape, [self.first])
        self.held: dict[int, Tensor] = {}

    def read(self, first: float, last: float) -> OutputFacts:
        """Run it again for values, and at the first and last time."""
        needed = set[int]().union(*map(list_held, self.routes)) | self.timeline.graph.constants
        with refuse_errors(self.at):
            tape, self.held, at_first = self.subject.record(self.at, needed)
        if tape.describe() != self.tape.describe():
            raise SpecError("the network takes other operations each time it runs: it cannot be compared with itself")
        self.timeline.constants = {id: self.held[id] for id in self.timeline.graph.constants}
        other = last if last != self.at else first
        kept, at_last = self.timeline.run(other)
        self.timeline.check(kept, other)
        pairs = list(zip(at_first, at_last, strict=True))
        return OutputFacts(
            zero=bool(pairs) and not any(one.any() or two.any() for one, two in pairs),
            constant=all(torch.equal(one, two) for one, two in pairs),
            change=_measure_change(pairs),
        )

    def measure_sites(self, times: Sequence[float], axis: int | None) -> list[SiteFacts]:
        """The numbers of each site."""
        series = [self.timeline.find(t) for t in times]
        names = _name_sites(self.routes, self.subject.network)
        return [
            measure_site(name, route, self.held, series, self.tape.values[route.join.data].shape, axis)
            for name, route in zip(names, self.routes, strict=True)
        ]

    def measure_embedding(self, times: Sequence[float]) -> EmbeddingFacts | None:
        """How well the times are resolved."""
        if self.first not in self.graph.consumers:
            return None
        grid = sorted(set(times))
        if not self.timeline.runs and len(grid) < RESOLVED:
            grid = spread_times(grid[0], grid[-1], RESOLVED)
        if not self.subject.make_time(grid[0]).is_floating_point():
            grid = sorted({float(round(t)) for t in grid})
        operations = self.graph.makers[self.first].index if self.first in self.graph.makers else 0
        forms = try_forms(self.subject, None if self.timeline.runs else self._embed, grid, operations)
        series = [self.timeline.find(t) for t in grid]
        return measure_embedding(series, self.graph, self.first, self.told, self.subject.batch, forms)

    def _embed(self, time: Tensor) -> Tensor:
        """The first embedding alone."""
        return self.embedder.run(time, self.timeline.constants)[self.first]


def _find_behaviour(
    prepared: Prepared,
    network: nn.Module,
    call: Call,
    loss: str | Loss,
    batches: Sequence[Tensor],
    times: Sequence[float],
) -> Behaviour:
    """What the network makes of the time on data of the user's, in its own type."""
    own = copy_network(network, double=False)
    teller = Teller(call, prepared.subject.example, prepared.subject.batch)
    known = find_adapter(network)
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", "own")
    if isinstance(loss, str):
        loss = make_loss(loss, teller, times, known is not None and known[1].data_first)
    like = next(tensor for tensor in call.list_tensors(call.data[0]))
    moved = [batch.to(like.device, like.dtype) for batch in batches]
    try:
        return measure_behaviour(own, name, loss, moved, times)
    except SpecError:
        raise
    except Exception as error:
        raise SpecError(f"loss = {name}: {first_line(error)}") from error


def _describe(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _list_given(inputs: Any) -> list[str]:
    return list(inputs) if isinstance(inputs, Mapping) else []


def audit(
    module: Any,
    inputs: Any,
    time: str | int | None = None,
    times: Sequence[float] | None = None,
    *,
    at: float | None = None,
    channels: int | None = None,
    data: Sequence[str] | None = None,
    loss: str | Loss | None = None,
    batches: Sequence[Tensor] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Measure where time enters a network, what of it the norms behind leave, and how well times are told apart.

    The network is audited as it is given, in training or evaluation mode, on a copy in float64 where it can run so.

    Args:
        module: a network, compiled or not.
        inputs: an example: a tensor, a tuple or a dict, with or without the time. All images are told the same time.
        time: the argument that is the time: a name, a place, or a path such as `cond.t`; None: guessed.
        times: those that are compared with the first of them; None: guessed.
        at: the time from which the data operands are; None: the middle one.
        channels: the axis of the channels at every site; None: guessed.
        data: names of the inputs that are the data; others, as labels or texts, are taken for constants; None: guessed.
        loss: to measure what a trained network makes of the time: ddpm, flow, edm (`objective.py`), or a function
            (network, batch [B, ...], times [B], told times [B]) -> losses [B].
        batches: of images for the loss, at least 3 of at least 8.
        say: is called with what was guessed.

    Raises:
        SpecError: it cannot be audited so; one line says why.
    """
    network = unwrap(module)
    guessed = guess(network, time, times, _list_given(inputs))
    for note in guessed.notes:
        say(note)
    values, at = _check_times(guessed.times, at)
    call = bind_call(network, inputs, guessed.time, data)
    with keep_randomness(), keep_state(network), torch.no_grad():
        prepared = prepare_subject(network, call, at)
        examination = _Examination(prepared, at)
        output = examination.read(values[0], values[-1])
        return Audit(
            network=type(network).__name__,
            time=".".join(call.time),
            data=list(call.data),
            times=values,
            at=at,
            mode="training" if network.training else "evaluation",
            dtype=_describe(prepared.subject.dtype),
            sites=examination.measure_sites(values, channels),
            embedding=examination.measure_embedding(values),
            output=output,
            behaviour=None if loss is None else _find_behaviour(prepared, network, call, loss, batches, values),
            notes=[*prepared.notes, *_note_reads(examination.tape)],
        )
