"""theory: time-awareness of untrained ODE functions of every design -> records/theory.json. Trains nothing."""

from pathlib import Path

from pipeline.inputs import read_inputs
from pipeline.process import run_stage, tune_process
from pipeline.schema.node import load_node_spec
from pipeline.schema.theory import write_theory

ROOT = Path()
CHANNELS = 64  # the paper's narrow network: seconds in float64


def main() -> None:
    base = read_inputs(lambda: load_node_spec(ROOT).base).model_copy(update={"channels": CHANNELS})
    tune_process()

    from pipeline.networks.theory import measure_theory

    write_theory(ROOT, measure_theory(base))


if __name__ == "__main__":
    run_stage(main)
