"""check: refuse a mistake anywhere in params.yaml or specs/, then say what code each stage is made of. No torch.

params.yaml, specs/, the code -> closures/
"""

from pathlib import Path

from pipeline.run.closures import write_closures
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    read_inputs(lambda: load_project(ROOT))
    write_closures(ROOT)


if __name__ == "__main__":
    run_stage(main)
