"""Says in words what the time test of a user's network found."""

import sys
from collections.abc import Sequence
from typing import Any

from pipeline.report.statistics import Summary, find_interval, summarise
from pipeline.run.foreign import import_factory
from pipeline.studies.timetest.foreign import TimeUse, test_time

_ROUNDING = 1e-6
"""How far a centred R may be from 1 in float32 if the output does not vary with the time."""


def _summarise(use: TimeUse, key: str) -> Summary:
    found = summarise({seed: getattr(tested.score, key) for seed, tested in use.by_seed.items()})
    assert found is not None
    return found


def _bound(summary: Summary) -> tuple[float, float] | None:
    """The interval of a mean that is never negative."""
    interval = find_interval(summary)
    return None if interval is None else (max(interval[0], 0.0), interval[1])


def _show(summary: Summary, scale: float = 1.0) -> list[str]:
    """Mean and interval."""
    interval = _bound(summary)
    said = "one seed" if interval is None else " to ".join(f"{end * scale:.4g}" for end in interval)
    return [f"{summary.mean * scale:.4g}", said]


def _say_half(use: TimeUse) -> list[str]:
    """The mean step, over the seeds that got so far."""
    known = {seed: tested.half for seed, tested in use.by_seed.items() if tested.half is not None}
    found = summarise(known)
    if found is None:
        return ["never", ""]
    mean, interval = _show(found)
    missing = len(use.by_seed) - len(known)
    return [mean, f"{len(known)} of {len(use.by_seed)} seeds, the others never" if missing else interval]


def answer(use: TimeUse) -> str:
    """Does this architecture, trained, use the time that it is told? One sentence or two."""
    r, centred = _summarise(use, "r"), _summarise(use, "r_centred")
    if all(abs((tested.score.r_centred or 0.0) - 1) <= _ROUNDING for tested in use.by_seed.values()):
        return f"No: its output does not follow the time at all (centred R = 1, {_count(use)}), as if it were not told."
    interval = _bound(centred)
    if interval is None:
        return f"Centred R = {centred.mean:.3g}, and 1 is without the time; one seed gives no interval: use --seeds 5."
    if interval[0] <= 1 <= interval[1]:
        within = f"{interval[0]:.3g} to {interval[1]:.3g}"
        return f"Undecided: centred R is {within}, and 1 is without the time; more seeds or steps may tell."
    if interval[0] > 1:
        return (
            f"No: its output varies with the time, and farther from the target for it (centred R {centred.mean:.3g})."
        )
    more = f"; but R = {r.mean:.3g}: a network without the time could do as well; train longer (--steps)"
    share = f"it has learned {100 * (1 - centred.mean):.3g} % of what the time changes"
    return f"Yes: {share} (centred R {interval[0]:.3g} to {interval[1]:.3g}){more if r.mean >= 1 else ''}."


def _count(use: TimeUse) -> str:
    return f"{len(use.by_seed)} seeds" if len(use.by_seed) > 1 else "one seed"


def describe(use: TimeUse) -> str:
    """The numbers beside what is exact without the time, and the answer."""
    floor = next(iter(use.by_seed.values())).score.floor
    r, change = _summarise(use, "r"), _summarise(use, "change")
    rows = [
        ["", "mean", "95 % interval", "without the time"],
        ["squared error", *_show(r, floor), f"at least {floor:.4g}, the floor"],
        ["R, that over the floor", *_show(r), "1 or more"],
        ["centred R", *_show(_summarise(use, "r_centred")), "1"],
        ["largest change with t", *_show(change), "0"],
        ["T1/2, steps to half the way", *_say_half(use), "never"],
    ]
    head = f"{use.name} on {use.case}: {use.call}; {use.num_params:,} parameters, {use.steps} steps, {_count(use)}"
    return "\n".join([head, "", *_align(rows), "", answer(use)])


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]


def print_answer(name: str, **options: Any) -> None:
    """Test the network that a name says, `package.module:factory`, and print what was found.

    Args:
        options: those of `test_time`.

    Raises:
        SpecError: there is no such network, or it cannot be tested.
    """
    factory = import_factory(name)

    def tell(seed: int) -> None:
        print(f"training with seed {seed}", file=sys.stderr)

    print(describe(test_time(factory, name=name, on_seed=tell, **options)))
