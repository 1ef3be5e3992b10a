"""architecture: params.yaml -> records/architecture.json: each arm's network, and a site under each remedy.

Trains nothing.
"""

from pathlib import Path

from pipeline.compute.threads import tune_process
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.architecture import PATH, Architecture
from pipeline.schema.document import write_document
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    project = read_inputs(lambda: load_project(ROOT))
    tune_process()

    from pipeline.audit.architecture import MEASURES

    networks = [
        MEASURES[study](project, case)
        for study in project.specs
        if study in MEASURES
        for case in project.panel.cases[study]
    ]
    write_document(ROOT / PATH, Architecture(networks=networks))


if __name__ == "__main__":
    run_stage(main)
