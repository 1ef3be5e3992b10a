"""The numbers of a site: what the time changes before and behind its norm, and what survives."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from pipeline.audit.findings import NormFacts, SiteFacts
from pipeline.audit.freeze import ReplayedNorm, normalise_channels
from pipeline.audit.replay import Replay, list_needed, widen
from pipeline.audit.route import Route
from pipeline.schema.architecture import EXACT
from pipeline.schema.base import SpecError

Values = Mapping[int, Tensor]


def list_held(route: Route) -> set[int]:
    """Ids of the values that a site's numbers need, beside those of the time."""
    norm = () if route.norm is None else route.norm.steps
    needed = list_needed((*route.join.steps, *route.steps, *norm))
    return needed - set(route.join.times)


def _divide(part: Tensor, whole: Tensor) -> float | None:
    ratio = float(part / whole)
    return ratio if math.isfinite(ratio) else None


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _change(moved: Tensor, first: Tensor) -> float | None:
    """||x - x_0|| / ||x_0||; exactly 0 where only rounding is left."""
    ratio = _divide((moved - first).norm(), first.norm())
    return 0.0 if ratio is not None and ratio < EXACT else ratio


def measure_offset(difference: Tensor, axis: int) -> float | None:
    """The part of a difference's energy that is one offset per channel and image: 1 if it is nothing else.

    None: there is no difference, or nothing to average over.

    Args:
        difference: [B, ...] with channels along `axis`.
    """
    others = [place for place in range(1, difference.ndim) if place != axis]
    if not others:
        return None  # a channel of an image is one number
    means = difference.mean(others, keepdim=True).expand_as(difference)
    return _divide(means.square().sum(), difference.square().sum())


def measure_survival(n: Sequence[Tensor], frozen: Callable[[Tensor], Tensor], z: Sequence[Tensor]) -> float | None:
    """||n(t) - n(t_0)|| / ||n~(t) - n~(t_0)||, mean over times; n~ has its statistics held.

    1: the norm cancels nothing; 0: all of it. None: z does not change.
    """
    held = frozen(z[0])
    found = []
    for after, before in zip(n[1:], z[1:], strict=True):
        if _change(before, z[0]) == 0:
            continue
        left = (after - n[0]).norm()
        # Below rounding, what is left of a difference is no number.
        found.append(0.0 if left < EXACT * n[0].norm() else _divide(left, (frozen(before) - held).norm()))
    return _average(found)


def measure_survival_by_channel(z: Sequence[Tensor], axis: int, eps: float) -> float | None:
    """The same for group normalisation with G = C; None: a channel of an image is one number."""
    made = normalise_channels(z[0], axis, eps)
    return None if made is None else measure_survival([made[0](one) for one in z], made[1], z)


def measure_share(n: Tensor) -> float | None:
    """The part of the variance that the time makes, n [times, ...]."""
    return _divide(n.var(0, correction=0).mean(), n.var(correction=0))


def choose_channels(norm: ReplayedNorm | None, z: Tensor, told: Tensor) -> int:
    """The axis of the channels: the last one of tokens, else 1."""
    last = z.ndim - 1
    if z.ndim < 3 or (z.ndim == 3 and told.ndim == 3 and told.shape[1] == 1 < told.shape[2]):
        return max(last, 0)
    return last if norm is not None and norm.find_axes(z) == {last} else 1


class SiteReplay:
    """A site's way to its norm, run again in float64.

    Args:
        held: values of `list_held`, recorded at one time.
    """

    def __init__(self, route: Route, held: Values) -> None:
        self.route = route
        self.way = Replay((*route.join.steps, *route.steps), held)
        self.norm = None if route.norm is None else ReplayedNorm(route.norm, held)
        self.end = route.join.output if route.norm is None else route.norm.entry

    def run(self, told: Values) -> Tensor:
        """What enters the norm, or leaves the site where none follows."""
        return self.way.run({id: widen(told[id]) for id in self.route.join.times})[self.end]


def _describe_norm(norm: ReplayedNorm, z: Tensor, images: int) -> NormFacts:
    """A batch normalisation of one image, where there are more, is PyTorch's way to normalise each by itself."""
    instance = norm.uses_batch and len(z) == 1 < images
    return NormFacts.model_validate(
        {
            "kind": "instance" if instance else norm.norm.kind,
            "path": norm.norm.steps[0].path,
            "groups": norm.groups,
            "batch_statistics": norm.uses_batch and not instance,
        }
    )


def measure_site(
    name: str, route: Route, held: Values, told: Sequence[Values], data: Sequence[int], axis: int | None
) -> SiteFacts:
    """Measure a site.

    Args:
        held: see `SiteReplay`.
        told: the values of the time that enter, at each time.
        data: shape of the tensor that they meet.
        axis: of the channels; None: guessed.

    Raises:
        SpecError: there is no such axis.
    """
    replay = SiteReplay(route, held)
    z = [replay.run(one) for one in told]
    entered = [told[0][id] for id in route.join.times]
    channels = choose_channels(replay.norm, z[0], entered[0]) if axis is None else axis
    if not -z[0].ndim <= channels < z[0].ndim:
        raise SpecError(f"channels = {axis}: at {name} a tensor has {z[0].ndim} axes")
    channels %= z[0].ndim
    norm = replay.norm
    n = None if norm is None else [norm.apply(one) for one in z]
    changes = [] if n is None else [_change(one, n[0]) for one in n[1:]]
    return SiteFacts(
        name=name,
        kind=route.join.kind,
        shape=list(data),
        told=list(entered[0].shape),
        zero=not any(one[id].any() for one in told for id in route.join.times),
        norm=None if norm is None else _describe_norm(norm, z[0], images=data[0] if data else 1),
        passes=route.passes,
        channel_axis=channels,
        change_before=_average([_change(one, z[0]) for one in z[1:]]),
        change_behind=_average(changes),
        offset_part=_average([measure_offset(one - z[0], channels) for one in z[1:]]),
        survival=None if norm is None or n is None else measure_survival(n, norm.freeze(z[0]), z),
        survival_by_channel=None if norm is None else measure_survival_by_channel(z, channels, norm.eps),
        changes=changes,
        share=None if n is None else measure_share(torch.stack(n)),
    )
