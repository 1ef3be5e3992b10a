"""Records made by hand, and panels of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.panel import Panel
from pipeline.schema.record import DdpmRecord, Failure, NodeRecord


def node_record(accuracy: float, nfe: float | None = 26.0, **fields: Any) -> NodeRecord:
    return NodeRecord.model_validate({
        "accuracy": accuracy, "accuracy_last": accuracy - 1, "nll": 0.5, "nll_last": 0.6, "nfe": nfe, "nfe_last": nfe,
        "nfe_train": nfe, "nfe_train_last": nfe, "nfe_backward": 32.0, "nfe_backward_last": 32.0,
        "change_initial": 0.1, "change": 0.2, "share_initial": 0.01, "share": 0.02, "best_epoch": 3, "epochs": 8,
        "images": 360, "num_params": 100, "initial": None, "trained": None, **fields,
    })  # fmt: skip


def ddpm_record(fid: float) -> DdpmRecord:
    return DdpmRecord(
        fid=fid, inception_score=9.0, inception_score_std=0.0, images=1000, reference_images=1437, isc_splits=1,
        sampling_steps=100, training_steps=500, num_params=100, extractor="classifier-0123",
    )  # fmt: skip


def failure(epoch: int = 2) -> Failure:
    return Failure(epoch=epoch, step=30, reason="the solver took more than 1000 steps.")


def make_panel(
    records: Mapping[str, Mapping[int, Any]],
    dataset: str = "digits",
    scale: str = "embedded",
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (0, 1),
) -> Panel:
    return Panel(dataset, dataset, scale, list(arms or records), list(seeds), records)


def cells(markdown: str, label: str) -> list[str]:
    """The cells of the first row that begins with a label."""
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {label}"))
    return [cell.strip() for cell in line.strip("|").split("|")]
