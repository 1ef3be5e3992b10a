"""Compares a diffusion model's golden traces with those of the current code."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.run.outputs import read_trace
from pipeline.schema.record import Failure
from pipeline.studies.ddpm.samples import read_samples
from pipeline.studies.ddpm.sampling_trace import trace_sampling
from pipeline.studies.ddpm.study import TRAINED, DdpmRun
from pipeline.studies.ddpm.trace import trace_training


def compare(root: Path, run: DdpmRun) -> Iterator[tuple[str, str, str]]:
    """For each kept step of a run: its name, the trace beside its output, the trace of the current code."""
    if run.network.weights == TRAINED:
        yield "training", read_trace(root / "runs" / run.name / "trace.json"), trace_training(run)
    samples = read_samples(root / "samples" / run.name)
    if not isinstance(samples, Failure):
        yield "sampling", samples.trace, trace_sampling(run, samples.sampling)
