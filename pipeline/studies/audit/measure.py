"""Audits a built-in network and sums its sites up."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from pipeline.audit.adapters import guess
from pipeline.audit.builtin import make_built_in
from pipeline.audit.examination import audit
from pipeline.audit.findings import Audit, SiteFacts
from pipeline.schema.architecture import EXACT
from pipeline.studies.audit.study import AuditRecord, AuditRun

_DIGITS = 9
_FLOATS = (0.0, 0.9)
"""The same whole number (diffusers#13654)."""


def _round(value: float | None) -> float | None:
    """To nine digits: kernels of linear algebra differ from one CPU to another in the last of sixteen.

    What is below rounding is 0.
    """
    if value is None:
        return None
    return 0.0 if abs(value) < EXACT else float(f"{value:.{_DIGITS}g}")


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _round(fmean(known)) if known else None


def _keep(site: SiteFacts, survival: float | None) -> float | None:
    """What a site keeps: all of it where no norm follows."""
    moves = site.change_before is None or site.change_before > 0
    return 1.0 if site.norm is None and moves else survival


def compare_floats(network: nn.Module, inputs: Mapping[str, Any], time: str) -> float | None:
    """Relative change of the output between two times given as Python floats; None: they are not taken, or it is 0."""
    double = tree_map(lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, dict(inputs))
    try:
        with torch.no_grad():
            first, second = (tree_leaves(network.double()(**{**double, time: t}))[0] for t in _FLOATS)
    except (AttributeError, TypeError, RuntimeError):  # what a network that takes tensors does with a float
        return None
    ratio = float((second - first).norm() / first.norm())
    return _round(ratio) if math.isfinite(ratio) else None


def _count_bfloat16(found: Audit) -> float | None:
    forms = () if found.embedding is None else found.embedding.forms
    form = next((form for form in forms if form.name == "bfloat16"), None)
    return None if form is None or form.distinct is None else 100 * form.distinct / form.times


def summarise_audit(found: Audit, float_change: float | None) -> AuditRecord:
    """An audit as the numbers of a record."""
    sites, embedding, kinds = found.sites, found.embedding, Counter(site.kind for site in found.sites)
    return AuditRecord(
        sites=len(sites),
        added=kinds["added"],
        scaled=kinds["scale-shift"],
        gated=kinds["gate"],
        concatenated=kinds["concatenated"],
        normed=sum(site.norm is not None for site in sites),
        cancelled=sum(site.survival == 0 for site in sites),
        survival=_average([site.survival for site in sites]),
        survival_least=_round(found.least_survival),
        survival_by_channel=_average([site.survival_by_channel for site in sites]),
        kept=_average([_keep(site, site.survival) for site in sites]),
        kept_by_channel=_average([_keep(site, site.survival_by_channel) for site in sites]),
        offset_part=_average([site.offset_part for site in sites]),
        offset_first=_round(sites[0].offset_part) if sites else None,
        rank=None if embedding is None else _round(embedding.rank),
        rank_sites=None if embedding is None else _round(embedding.site_rank),
        width=0 if embedding is None else embedding.width,
        times=0 if embedding is None else embedding.times,
        bfloat16=_count_bfloat16(found),
        output_change=_round(found.output.change),
        float_change=float_change,
    )


def measure_audit(run: AuditRun) -> AuditRecord:
    """Audit a network with random weights.

    Raises:
        SpecError: its package is not installed.
    """
    network, inputs = make_built_in(run.audited.network, run.seed)
    guessed = guess(network, None, None, list(inputs))
    times = [t * run.audited.time_scale for t in guessed.times]
    found = audit(network, inputs, guessed.time, times)
    return summarise_audit(found, compare_floats(network, inputs, str(guessed.time)))
