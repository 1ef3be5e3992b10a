"""theory: time-awareness of untrained ODE functions of every design -> records/theory.json. Trains nothing."""

from pathlib import Path

from pipeline.compute.threads import tune_process
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.theory import write_theory
from pipeline.studies.node.study import load_node_spec

ROOT = Path()
CHANNELS = 64  # the paper's narrow network: seconds in float64


def main() -> None:
    base = read_inputs(lambda: load_node_spec(ROOT).base).model_copy(update={"channels": CHANNELS})
    tune_process()

    from pipeline.studies.theory import measure_theory

    write_theory(ROOT, measure_theory(base))


if __name__ == "__main__":
    run_stage(main)
