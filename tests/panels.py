"""Records made by hand, and panels of them."""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

from problems import ROOT
from pydantic import BaseModel
from workspace import find_settings

from pipeline.report.panel import Panel
from pipeline.schema.arm import parse_arm
from pipeline.schema.base import SpecError
from pipeline.schema.project import Project, load_project
from pipeline.schema.record import Failure
from pipeline.schema.scores import Scores
from pipeline.schema.study import Run, find_study, list_studies
from pipeline.studies.ddpm.study import DdpmRecord, LevelAwareness, Protocol
from pipeline.studies.node.study import NodeRecord

STUDIES = {name: find_study(name) for name in list_studies(ROOT)}
BASELINES: dict[str, dict[str, dict[str, Any]]] = {
    "node": {
        "network": {"channels": 16, "stem_channels": 16, "groups": 4, "outer_groups": 4, "weight_std": None},
        "training": {"learning_rate": 0.08, "epochs": 9},
    },
    "ddpm": {"network": {"channels": 8, "groups": 2, "outer_groups": 2}},
}
"""The digits' baselines in panels made by hand, by study, part and field: other budgets in specs/ change no test."""
CHANGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0, 1e-7)
"""Initial change of the eight blocks of the digits' U-Net; trained, it is twice that."""


def node_record(accuracy: float, nfe: float | None = 26.0, **fields: Any) -> NodeRecord:
    return NodeRecord.model_validate({
        "accuracy": accuracy, "accuracy_last": accuracy - 1, "nll": 0.5, "nll_last": 0.6, "nfe": nfe, "nfe_last": nfe,
        "nfe_train": nfe, "nfe_train_last": nfe, "nfe_backward": 32.0, "nfe_backward_last": 32.0,
        "change_initial": 0.1, "change": 0.2, "share_initial": 0.01, "share": 0.02, "best_epoch": 3, "epochs": 8,
        "images": 360, "num_params": 100, "settings": {}, "initial": None, "trained": None,
        "accuracy_frozen": max(accuracy - 2, 0.0), "nll_frozen": 0.75, "time_use": 0.25, **fields,
    })  # fmt: skip


def make_scores(fid: float) -> Scores:
    """Every score follows from the FID, and no two are equal."""
    return Scores(
        fid=fid, kid=fid / 1000, inception_score=10 - fid / 10, inception_score_split=9.5 - fid / 10,
        inception_score_split_std=0.1, inception_score_biased=11 - fid / 10,
        inception_score_biased_split=10.5 - fid / 10, inception_score_biased_split_std=0.2,
    )  # fmt: skip


def make_protocol(**fields: Any) -> Protocol:
    return Protocol.model_validate({
        "images": 500, "sets": 1, "reference_images": 1437, "extractor": "classifier-0123",
        "extractor_sha256": "0123" * 16, "features": 64, "isc_splits": 10, "kid_subsets": 100, "kid_subset_size": 200,
        "weights": "trained", "sampler": "ancestral", "sampling_steps": 50, "clip": False, "labels": "fractional",
        "variance": "small", "quantisation": "truncate",
        "versions": {"numpy": "2.3.1", "torch": "2.15.0", "torch-fidelity": "0.4.0"}, **fields,
    })  # fmt: skip


def make_awareness(change: Sequence[float | None]) -> LevelAwareness:
    """Blocks with a change at the last of three levels; at the others it is 9, which no table shows."""
    return LevelAwareness(
        levels=[100, 500, 999], block_change=[[9.0, 9.0, value] for value in change],
        block_share=[0.01] * len(change),
    )  # fmt: skip


def ddpm_record(*fids: float, protocol: Mapping[str, Any] | None = None, **fields: Any) -> DdpmRecord:
    """A record of one sample set for each FID; the snapshots' are 3 lower and the first set's.

    Args:
        protocol: fields of it that differ.
    """
    sets = [make_scores(fid) for fid in fids]
    means = {
        key: statistics.fmean(getattr(scores, key) for scores in sets)
        for key in Scores.model_fields
        if not key.endswith("_std")
    }
    return DdpmRecord.model_validate({
        **means, "fid_spread": statistics.stdev(fids) if len(fids) > 1 else None, "fid_best": fids[0] - 3,
        "best_snapshot": 250, "change_initial": 0.2, "change": 0.4, "share_initial": 0.01, "share": 0.02,
        "training_steps": 500, "num_params": 100, "sets": sets,
        "snapshots": [
            {"step": step, "scores": make_scores(fid)} for step, fid in ((250, fids[0] - 3), (500, fids[0]))
        ],
        "settings": {}, "protocol": make_protocol(**{"sets": len(fids), **(protocol or {})}),
        "initial": make_awareness(CHANGES), "trained": make_awareness([2 * change for change in CHANGES]),
        "noise_loss": fids[0] / 100, "noise_loss_shuffled": 0.3, "noise_loss_mean_level": 0.25,
        "time_use": 0.25 - fids[0] / 100, **fields,
    })  # fmt: skip


def make_record(study: str) -> Any:
    """Some record of a completed run of any study."""
    if study in ("node", "ddpm"):
        return node_record(90.0) if study == "node" else ddpm_record(5.0)
    return fill_record(STUDIES[study].record)


def fill_record(model: type[BaseModel], **fields: Any) -> Any:
    """A record of which a test needs only some numbers; what is left out and needed is a half, 1, false or nothing."""
    plain: dict[Any, Any] = {float: 0.5, int: 1, bool: False, float | None: None}
    needed = {name: info.annotation for name, info in model.model_fields.items() if info.is_required()}
    return model.model_validate({**{name: plain.get(kind, []) for name, kind in needed.items()}, **fields})


def failure(epoch: int = 2) -> Failure:
    return Failure(epoch=epoch, step=30, reason="the solver took more than 1000 steps.")


@cache
def _load_settings() -> Project:
    """The settings, with baselines of this file's own."""
    project = load_project(find_settings())
    for study, parts in BASELINES.items():
        for part, fields in parts.items():
            project.specs[study].cases["digits"].setdefault(part, {}).update(fields)
    return replace(project, _arms={})  # without the runs that were resolved before


def _find_study(records: Mapping[str, Mapping[int, Any]]) -> str:
    """Whose the first completed record is; the NODE study's where there is none."""
    found = [record for of_arm in records.values() for record in of_arm.values() if not isinstance(record, Failure)]
    names = [name for name, study in STUDIES.items() if found and isinstance(found[0], study.record)]
    return names[0] if names else "node"


def make_panel(
    records: Mapping[str, Mapping[int, Any]],
    case: str = "digits",
    scale: str = "embedded",
    arms: Sequence[str] = (),
    seeds: Sequence[int] | Mapping[str, Sequence[int]] = (0, 1),
    study: str | None = None,
) -> Panel:
    """A panel of some records.

    Args:
        seeds: of every arm, or by arm.
        study: by default, whose the records are.
    """
    study, project = study or _find_study(records), _load_settings()
    runs, wanted = dict[str, Run](), dict[str, list[int]]()
    for text in arms or records:
        arm = parse_arm(text, STUDIES[study].run_on(case))
        wanted[arm] = list(seeds[text] if isinstance(seeds, Mapping) else seeds)
        with suppress(SpecError):  # an arm that is not canonical on this case, which no panel of a file has
            runs[arm] = project.resolve(study, case, arm, 0)
    return Panel(study, case, case, scale, wanted, runs, records)


def cells(markdown: str, label: str) -> list[str]:
    """The cells of the first row that begins with a label."""
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {label}"))
    return [cell.strip() for cell in line.strip("|").split("|")]
