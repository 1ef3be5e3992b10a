"""How the numbers of a table of the study `node` came about."""

from collections.abc import Sequence

from pipeline.report.protocol import show_key
from pipeline.studies.node.study import NodeRecord


def describe(records: Sequence[NodeRecord], embedded: bool) -> list[str]:
    """The protocol in words, a line each."""
    return [
        f"accuracy and NFE at the best of {show_key(records, 'epochs')} epochs by test accuracy (our choice, inferred "
        "from neural-ode-features; the paper does not say), and accuracy at the last; "
        f"{show_key(records, 'images')} test images; NFE: forward, mean "
        "over test batches; NFE-B: adjoint solve, mean over training batches; left out, or —, where there is none"
    ]
