"""What a network makes of the time alone, at any time."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor

from pipeline.audit.replay import TimeGraph
from pipeline.audit.subject import Subject, first_line
from pipeline.audit.tape import Tape
from pipeline.schema.base import SpecError

_CLOSE = 1e-4
"""Relative difference of a value that is computed again, in whatever type the network runs."""


def check_finite(values: Sequence[Tensor], what: str, t: float) -> None:
    """Refuse what cannot be measured.

    Raises:
        SpecError: a number is infinite or none.
    """
    if not all(one.isfinite().all() for one in values if one.is_floating_point()):
        raise SpecError(f"{what} is not finite at time {t:g}: there is nothing to measure")


@contextmanager
def refuse_errors(t: float) -> Iterator[None]:
    """Within, what a network raises at a time is said in one line.

    Raises:
        SpecError: it does not run at this time.
    """
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
        raise SpecError(f"the network does not run at time {t:g}: {first_line(error)}") from error


def _agree(one: Tensor, other: Tensor) -> bool:
    """Whether they are the same but for rounding."""
    return bool((one.double() - other.double()).norm() <= _CLOSE * one.double().norm())


class Timeline:
    """Values of the time alone, at any time.

    They are computed from the operations that make them. Where the network reads the time as a Python number or draws
    random numbers for it, it is run anew for each time.
    """

    def __init__(self, subject: Subject, tape: Tape, wanted: set[int], at: float) -> None:
        self.subject, self.tape, self.wanted, self.at = subject, tape, wanted, at
        self.graph = TimeGraph(tape, wanted)
        self.runs = bool(tape.reads) or self.graph.is_random
        self.constants: Mapping[int, Tensor] = {}

    def find(self, t: float) -> dict[int, Tensor]:
        """The wanted values at a time.

        Raises:
            SpecError: the network does not run at it, or they are not finite.
        """
        if self.runs:
            values = self.run(t)[0]
        else:
            with refuse_errors(t):
                values = self.graph.run(self.subject.make_time(t), self.constants)
        check_finite(list(values.values()), "what the network makes of the time", t)
        return values

    def run(self, t: float) -> tuple[dict[int, Tensor], list[Tensor]]:
        """The same from a pass of the whole network, and its outputs.

        Raises:
            SpecError: the network does not run at this time, or does something else.
        """
        with refuse_errors(t):
            tape, kept, outputs = self.subject.record(t, self.wanted)
        if tape.describe() != self.tape.describe():
            raise SpecError(
                f"the network takes other operations at time {t:g} than at {self.at:g}: choose times at which they "
                "are the same"
            )
        check_finite(outputs, "the network's output", t)
        return kept, outputs

    def check(self, kept: Mapping[int, Tensor], t: float) -> None:
        """Compare with a pass; if something else decides the values, run the network for each time."""
        if not self.runs:
            computed = self.find(t)
            self.runs = any(not _agree(kept[id], computed[id]) for id in self.wanted)
