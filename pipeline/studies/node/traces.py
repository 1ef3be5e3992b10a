"""Compares a NODE model's golden trace with that of the current code."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.run.outputs import read_trace
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.trace import trace_node


def compare(root: Path, run: NodeRun) -> Iterator[tuple[str, str, str]]:
    """For each kept step of a run: its name, the trace beside its output, the trace of the current code."""
    yield "training", read_trace(root / "runs" / run.name / "trace.json"), trace_node(run)
