"""Accuracy and likelihood of a classifier from its logits. Imports NumPy only."""

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating]
"""[N, classes]."""


def measure_accuracy(logits: Logits, labels: NDArray[np.int64]) -> float:
    """Share of images whose largest logit is at their label, in %; logits [N, classes], labels [N]."""
    return float((logits.argmax(1) == labels).mean() * 100)


def measure_nll(logits: Logits, labels: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood of the labels, in nats; logits [N, classes], labels [N]. In float64."""
    wide = logits.astype(np.float64)
    top = wide.max(1, keepdims=True)  # subtracted so that exp cannot overflow
    log_norm = np.log(np.exp(wide - top).sum(1)) + top[:, 0]
    return float((log_norm - wide[np.arange(len(labels)), labels]).mean())
