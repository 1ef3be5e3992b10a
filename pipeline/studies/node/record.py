"""The record of a NODE run from what its training wrote. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.metrics.average import average
from pipeline.metrics.classification import measure_accuracy, measure_nll
from pipeline.schema.base import Strict
from pipeline.schema.compute import Compute
from pipeline.schema.record import NodeRecord, Settings, TimeAwareness, list_settings
from pipeline.studies.node.study import NodeRun

Row = Mapping[str, float | None]
"""Of a history: an epoch."""


class TimeAwarenessPair(Strict):
    """runs/node/DATASET/ARM/SEED/time_awareness.json; empty without an ODE block."""

    initial: TimeAwareness | None = Field(default=None, description="before the first step")
    trained: TimeAwareness | None = Field(default=None, description="of the last epoch")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(one is not None and not one.change for one in (self.initial, self.trained)):
            raise ValueError("change: empty; a value for each of `times` is needed")
        return self


class TrainedClassifier(Strict):
    """runs/node/DATASET/ARM/SEED/run.json."""

    run: NodeRun
    compute: Compute
    num_params: int = Field(ge=1, description="trained parameters")

    def list_settings(self) -> Settings:
        """What decided the run."""
        return list_settings(network=self.run.network, training=self.run.training, compute=self.compute)


def measure_nfe(counts: NDArray[Any]) -> float | None:
    """Mean over batches; None where there is no ODE block, which is written as -1."""
    return float(counts.astype(np.float64).mean()) if counts.min() >= 0 else None


def make_node_record(
    arrays: Mapping[str, NDArray[Any]], history: Sequence[Row], awareness: TimeAwarenessPair, settings: Settings
) -> NodeRecord:
    """The record.

    Args:
        arrays: predictions.safetensors.
        history: a row an epoch.
    """
    labels = arrays["labels"].astype(np.int64)
    best, last = (arrays[f"{epoch}_logits"].astype(np.float64) for epoch in ("best", "last"))
    best_epoch, epochs, num_params = (int(value) for value in arrays["epochs"])
    initial, trained = awareness.initial, awareness.trained
    return NodeRecord(
        accuracy=measure_accuracy(best, labels),
        accuracy_last=measure_accuracy(last, labels),
        nll=measure_nll(best, labels),
        nll_last=measure_nll(last, labels),
        nfe=measure_nfe(arrays["best_nfe"]),
        nfe_last=measure_nfe(arrays["last_nfe"]),
        nfe_train=history[best_epoch - 1]["nfe_train"],
        nfe_train_last=history[-1]["nfe_train"],
        nfe_backward=history[best_epoch - 1]["nfe_backward"],
        nfe_backward_last=history[-1]["nfe_backward"],
        change_initial=initial.change[-1] if initial else None,
        change=trained.change[-1] if trained else None,
        share_initial=average(initial.site_share) if initial else None,
        share=average(trained.site_share) if trained else None,
        best_epoch=best_epoch,
        epochs=epochs,
        images=len(labels),
        num_params=num_params,
        settings=settings,
        initial=initial,
        trained=trained,
    )
