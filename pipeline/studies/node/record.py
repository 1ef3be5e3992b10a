"""Makes the record of a NODE run from its predictions and history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.metrics.average import average
from pipeline.metrics.classification import measure_accuracy, measure_nll
from pipeline.schema.compute import Compute
from pipeline.schema.record import list_settings
from pipeline.studies.node.predict import Predictions
from pipeline.studies.node.study import NodeRecord, NodeRun, TimeAwareness

Row = Mapping[str, float | None]
"""One epoch of a history."""


@dataclass(frozen=True)
class Evaluated:
    """Results of an evaluation."""

    best: Predictions
    """Of the epoch with the highest test accuracy; the first one if there are several."""
    last: Predictions
    """Of the last epoch."""
    frozen: Predictions | None
    """Of the best epoch, with the time frozen; None without an ODE block."""
    initial: TimeAwareness | None
    """Before training; None without an ODE block."""
    trained: TimeAwareness | None
    """After the last epoch."""
    num_params: int


def measure_nfe(counts: Tensor) -> float | None:
    """Mean NFE over batches; None without an ODE block, which is stored as -1."""
    return float(counts.numpy().astype(np.float64).mean()) if counts.min() >= 0 else None


def _widen(predictions: Predictions) -> NDArray[np.float64]:
    """Logits [N, classes] in float64."""
    return predictions.logits.numpy().astype(np.float64)


def find_best(history: Sequence[Row]) -> int:
    """Number of the first epoch with the highest test accuracy, from 1."""
    accuracies = [row["test_accuracy"] or 0.0 for row in history]
    return accuracies.index(max(accuracies)) + 1


def make_node_record(
    run: NodeRun, compute: Compute, found: Evaluated, labels: NDArray[np.int64], history: Sequence[Row]
) -> NodeRecord:
    """Make the record of a run.

    Args:
        labels: labels of the test split.
        history: one row per epoch.
    """
    best, last = (_widen(part) for part in (found.best, found.last))
    frozen, nll = _widen(found.frozen) if found.frozen is not None else None, measure_nll(best, labels)
    nll_frozen = measure_nll(frozen, labels) if frozen is not None else None
    best_epoch, initial, trained = find_best(history), found.initial, found.trained
    return NodeRecord(
        accuracy=measure_accuracy(best, labels),
        accuracy_last=measure_accuracy(last, labels),
        nll=nll,
        nll_last=measure_nll(last, labels),
        nfe=measure_nfe(found.best.nfe),
        nfe_last=measure_nfe(found.last.nfe),
        nfe_train=history[best_epoch - 1]["nfe_train"],
        nfe_train_last=history[-1]["nfe_train"],
        nfe_backward=history[best_epoch - 1]["nfe_backward"],
        nfe_backward_last=history[-1]["nfe_backward"],
        change_initial=initial.change[-1] if initial else None,
        change=trained.change[-1] if trained else None,
        share_initial=average(initial.site_share) if initial else None,
        share=average(trained.site_share) if trained else None,
        best_epoch=best_epoch,
        epochs=len(history),
        images=len(labels),
        num_params=found.num_params,
        settings=list_settings(network=run.network, training=run.training, compute=compute),
        initial=initial,
        trained=trained,
        accuracy_frozen=measure_accuracy(frozen, labels) if frozen is not None else None,
        nll_frozen=nll_frozen,
        time_use=nll_frozen - nll if nll_frozen is not None else None,
    )
