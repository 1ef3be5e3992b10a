"""What an audit says in plain words, computed from its numbers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from pipeline.audit.findings import Audit, Behaviour, EmbeddingFacts, Interval, SiteFacts
from pipeline.schema.architecture import EXACT

_NORMS = {
    "group": "group normalisation", "layer": "layer normalisation", "batch": "batch normalisation",
    "instance": "instance normalisation", "rms": "an RMS normalisation", "arithmetic": "a norm written as arithmetic",
}  # fmt: skip
_KINDS = {
    "added": "addition", "scale-shift": "scale and shift", "gate": "a gate", "concatenated": "concatenation",
    "other": "another operation",
}  # fmt: skip
_LOW_RANK = 1.5
"""An embedding of several features whose effective rank is below this is nearly a straight line."""
_SCALE = 1000.0
"""Span of times for which sinusoids of period 10,000 were made (Ho et al. 2020)."""
_SATURATED = 0.5
_UNREAD = 0.1
_NAMED = 3
_WHOLE = ("whole numbers",)
"""Who gives the time so knows it."""


def count(number: int, noun: str) -> str:
    """`1 site`, `2 sites`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def percent(value: float) -> str:
    """A share; what is not quite nothing or all does not look so."""
    shown = f"{100 * value:.0f} %"
    if value < EXACT:
        return "nothing"
    return "under 1 %" if shown == "0 %" else shown


def _name(sites: Sequence[SiteFacts]) -> str:
    """The first few of some sites."""
    more = f" and {len(sites) - _NAMED} more" if len(sites) > _NAMED else ""
    return ", ".join(site.name for site in sites[:_NAMED]) + more


def _say_kind(site: SiteFacts) -> str:
    how = f"by {_KINDS[site.kind]}"
    return f"{how} before {_NORMS[site.norm.kind]}" if site.norm is not None else f"{how} that no norm follows"


def _say_sites(sites: Sequence[SiteFacts]) -> str:
    kinds = Counter(map(_say_kind, sites))
    if len(kinds) == 1:
        return f"Time enters at {count(len(sites), 'site')} {next(iter(kinds))}."
    return f"Time enters at {count(len(sites), 'site')}: " + "; ".join(f"{n} {kind}" for kind, n in kinds.items()) + "."


def _say_channels(sites: Sequence[SiteFacts]) -> str:
    by_channel = [site.survival_by_channel for site in sites if site.survival_by_channel is not None]
    if not by_channel:
        return ""
    mean = fmean(by_channel)
    return f"; with one group per channel (G = C) {percent(mean)} would survive"


def _say_survival(audit: Audit) -> Iterator[str]:
    sites = audit.normed
    known = [site.survival for site in sites if site.survival is not None]
    if not known:
        yield "No norm cancels it." if audit.sites else ""
        return
    least = min(sites, key=lambda site: site.survival or 0.0)
    spread = (
        ""
        if len(known) == 1 or max(known) - min(known) < EXACT
        else f" (least: {percent(min(known))}, at {least.name})"
    )
    where = "" if len(known) == len(audit.sites) else "where a norm follows, "
    said = f"{where}{percent(fmean(known))} of it survives on average{spread}{_say_channels(sites)}."
    yield said[0].upper() + said[1:]
    lost = [site for site in sites if site.survival == 0]
    if lost and len(lost) < len(sites):
        yield f"At {count(len(lost), 'site')} all of it is cancelled: {_name(lost)}."
    if around := [site for site in sites if site.passes]:
        yield f"At {count(len(around), 'site')} it also goes past the norm, on a skip."


def _say_embedding(embedding: EmbeddingFacts, times: Sequence[float]) -> Iterator[str]:
    if embedding.rank is not None and embedding.sinusoid:
        advice = ""
        span = max(times) - min(times)
        if embedding.rank < _LOW_RANK and span < _SCALE / 10:
            advice = f": multiply {'t' if span <= 1 else 'the time'} by {_SCALE / span:.4g}"
        yield f"The embedding resolves {embedding.rank:.1f} of {embedding.times} times{advice}."
    if embedding.distinct < embedding.times:
        yield f"Only {embedding.distinct} of {embedding.times} times have an embedding of their own."
    if embedding.saturated is not None and embedding.saturated > _SATURATED:
        yield f"{percent(embedding.saturated)} of what tanh and sigmoid make of the time is saturated."
    for form in embedding.forms:
        if form.distinct is not None and form.distinct < form.times and form.name not in _WHOLE:
            yield f"Given as {form.name}, {form.note}."


def _say_output(audit: Audit) -> Iterator[str]:
    still = [site for site in audit.sites if not site.change_before]
    zero = [site for site in still if site.zero]
    if zero:
        yield f"At {count(len(zero), 'site')} what the time gives is exactly 0: {_name(zero)}."
    elif still:
        yield f"At {count(len(still), 'site')} what the time gives does not change with it: {_name(still)}."
    if audit.output.zero:
        yield "The output is exactly 0, as at many an initialisation: audit trained weights."
    elif audit.output.constant:
        yield "The output does not change with the time: at initialisation that is common; audit trained weights."


def _say_raise(raised: Interval) -> str:
    """How much higher a loss is with a wrong time."""
    if raised.mean == 0:
        return "the same"
    sure = raised.low is None or raised.high is None or raised.low > 0 or raised.high < 0
    spread = "" if raised.low is None or raised.high is None else f" ({_show_range(raised, 100)} %)"
    size = abs(100 * raised.mean)
    said = f"{size:.{0 if size >= 1 else 2}f} % {'higher' if raised.mean > 0 else 'lower'}{spread}"
    return said if sure else f"not seen to differ{spread}"


def _show_range(found: Interval, factor: float = 1.0) -> str:
    return f"{factor * (found.low or 0):.3g} to {factor * (found.high or 0):.3g}"


def say_behaviour(behaviour: Behaviour) -> Iterator[str]:
    """Told and inferred time, with 95 % intervals over batches."""
    shuffled, fixed = _say_raise(behaviour.shuffled), _say_raise(behaviour.fixed)
    yield f"Told: the loss is {shuffled} with a shuffled time, and {fixed} with one time for all."
    if behaviour.linear is None or behaviour.mlp is None:
        return
    name, best = max((("linear", behaviour.linear), ("MLP", behaviour.mlp)), key=lambda one: one[1].mean)
    if best.mean < _UNREAD:
        yield f"Inferred: no probe reads the time from the input (R^2 = {max(best.mean, 0.0):.2f})."
    else:
        spread = "" if best.low is None else f", {_show_range(best)}"
        yield f"Inferred: a probe ({name}) reads the time from the input with R^2 = {best.mean:.2f}{spread}."


def _say_nowhere(audit: Audit) -> Iterator[str]:
    data = ", ".join(audit.data)
    yield f"Time, the input {audit.time}, is seen to meet the data ({data}) nowhere."
    if audit.output.constant:
        yield "The output does not change with it: the network does not use it."
    else:
        yield "But the output changes with it: through Python, NumPy or complex numbers, which are not followed."


def _list_sentences(audit: Audit) -> Iterator[str]:
    if not audit.sites:
        yield from _say_nowhere(audit)
        if audit.behaviour is not None:
            yield from say_behaviour(audit.behaviour)
        return
    yield _say_sites(audit.sites)
    yield from _say_survival(audit)
    if audit.embedding is not None:
        yield from _say_embedding(audit.embedding, audit.times)
    yield from _say_output(audit)
    if audit.behaviour is not None:
        yield from say_behaviour(audit.behaviour)


def conclude(audit: Audit) -> list[str]:
    """The verdict, a sentence each."""
    sentences: Iterable[str] = _list_sentences(audit)
    return [sentence for sentence in sentences if sentence]
