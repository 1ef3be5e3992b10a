"""check: params.yaml, specs/ and the code -> resolved/ (settings of each stage) and closures/ (code of each stage).

Refuses any mistake in params.yaml or specs/. Imports no torch.
"""

from functools import partial
from pathlib import Path

from pipeline.run.closures import write_closures
from pipeline.run.foreign import digest_factories
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.project import load_project
from pipeline.schema.resolved import write_resolved

ROOT = Path()


def main() -> None:
    project = read_inputs(lambda: load_project(ROOT))
    write_closures(ROOT)
    write_resolved(ROOT, project, partial(digest_factories, ROOT))


if __name__ == "__main__":
    run_stage(main)
