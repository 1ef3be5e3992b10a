"""Metrics of a classifier from its logits; numpy alone."""

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating]
"""[N, classes]."""


def measure_accuracy(logits: Logits, labels: NDArray[np.int64]) -> float:
    """Share of images whose largest logit is at their label, in %."""
    return float((logits.argmax(1) == labels).mean() * 100)


def measure_nll(logits: Logits, labels: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    wide = logits.astype(np.float64)
    top = wide.max(1, keepdims=True)
    log_norm = np.log(np.exp(wide - top).sum(1)) + top[:, 0]
    return float((log_norm - wide[np.arange(len(labels)), labels]).mean())
