"""A site as it is built: what each branch is of, where it can vary, and what the norm behind it leaves of it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.audit.site import Addend, Site, Tensors
from pipeline.schema.architecture import EXACT, Branch, Change, Norm, Outline, Parameter


@contextmanager
def _kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Within, they may be overwritten."""
    kept = [(tensor, tensor.clone()) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, values in kept:
            tensor.copy_(values)


@torch.no_grad()
def isolate(site: Site, addend: Addend, t: float, draw: bool = False) -> Tensor:
    """What a branch adds to Z [B, C, H, W]: Z with the parameters of all others at zero.

    Args:
        draw: with random numbers for the branch's own parameters, so that nothing is hidden by zeros.
    """
    own = addend.tensors
    others = [
        tensor
        for other in site.addends
        for name, tensor in other.tensors.items()
        if other is not addend and name not in own
    ]
    with _kept([*others, *own.values()]):
        for tensor in others:
            tensor.zero_()
        for tensor in own.values() if draw else ():
            tensor.normal_()
        return site.add(t)


def _compare(moved: Tensor, first: Tensor) -> float:
    """||x - x_0|| / ||x_0||."""
    return float((moved - first).norm() / first.norm())


def _measure_changes(site: Site) -> list[Change]:
    """What t does to the output of the norm: through each branch alone, then through all of them."""
    start, end = site.times
    z = site.add(start)
    eps = site.norm.eps
    assert isinstance(eps, float)
    by_channel = nn.GroupNorm(z.shape[1], z.shape[1], eps=eps, affine=False)
    moved = [z + isolate(site, addend, end) - isolate(site, addend, start) for addend in site.addends]
    return [
        Change(built=[_compare(site.norm(one), site.norm(z))], by_channel=[_compare(by_channel(one), by_channel(z))])
        for one in (*moved, site.add(end))
    ]


def _join(changes: Iterable[Change]) -> Change:
    """The same change in several initialisations."""
    kept = list(changes)
    return Change(
        built=[value for one in kept for value in one.built],
        by_channel=[value for one in kept for value in one.by_channel],
    )


def _list_parameters(own: Tensors, shared: Tensors) -> list[Parameter]:
    return [
        Parameter(name=name, shape=list(tensor.shape), zero=not tensor.any().item(), shared=name in shared)
        for name, tensor in {**own, **shared}.items()
    ]


def _differ(one: Tensor, other: Tensor) -> Tensor:
    """Where they differ by more than rounding: the order of a sum's terms may depend on the pixel."""
    return (one - other).abs() > EXACT * one.abs().max()


def _varies(values: Tensor, axis: int) -> bool:
    return bool(_differ(values, values.narrow(axis, 0, 1)).any())


def _outline_branch(site: Site, addend: Addend, change: Change) -> Branch:
    state, drawn = torch.get_rng_state(), []
    for t in site.times:
        torch.set_rng_state(state)  # the same random parameters for both
        drawn.append(isolate(site, addend, t, draw=True))
    first, last = drawn
    of: list[Literal["X", "t"]] = ["X"] if _varies(last, 0) else []
    if _differ(last, first).any():
        of.append("t")
    shape = [last.shape[axis] if _varies(last, axis) else 1 for axis in (1, 2, 3)]
    parameters = _list_parameters(addend.own, addend.shared)
    return Branch(
        kind=addend.kind, expression=addend.expression, made=addend.made, of=of, shape=shape, parameters=parameters,
        change=change if "t" in of else None,
    )  # fmt: skip


def _outline_norm(site: Site, z: Tensor) -> Norm:
    """Which values a norm takes together: those that move when one of them does."""
    bumped = z.clone()
    bumped[0, 0, 0, 0] += 1
    moved = _differ(site.norm(z), site.norm(bumped))
    images, *unit = [int(moved.any([other for other in range(4) if other != axis]).sum()) for axis in range(4)]
    affine = {f"{site.norm_name}.{name}": value for name, value in site.norm.named_parameters()}
    return Norm(
        name=site.norm_name, kind=type(site.norm).__name__, groups=z.shape[1] // unit[0], unit=unit,
        over_batch=images > 1, parameters=_list_parameters(affine, {}),
    )  # fmt: skip


@torch.no_grad()
def outline_site(sites: Iterable[Site]) -> Outline:
    """What a site adds up, and what is left of t behind its norm, measured in float64.

    Args:
        sites: the same one in several initialisations; all but the changes is told of the first.
    """
    remaining = iter(sites)
    site = next(remaining)
    measured = [_measure_changes(site), *map(_measure_changes, remaining)]
    *changes, change = map(_join, zip(*measured, strict=True))
    z = site.add(site.times[0])
    return Outline(
        name=site.name, sites=site.count, prepared=site.prepared, shape=list(site.x.shape[1:]),
        branches=[_outline_branch(site, *pair) for pair in zip(site.addends, changes, strict=True)],
        sum_shape=list(z.shape[1:]), norm=_outline_norm(site, z), times=list(site.times), change=change,
    )  # fmt: skip
