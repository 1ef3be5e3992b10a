"""architecture: networks of params.yaml, and a site under each remedy -> records/architecture.json. Trains nothing."""

from pathlib import Path

from pipeline.compute.threads import tune_process
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.architecture import PATH, Architecture
from pipeline.schema.data import Dataset, load_data_spec
from pipeline.schema.document import write_document
from pipeline.schema.panel import Panel, load_panel
from pipeline.studies.ddpm.study import DdpmSpec, load_ddpm_spec
from pipeline.studies.node.study import NodeSpec, load_node_spec

ROOT = Path()


def read_settings() -> tuple[dict[str, Dataset], NodeSpec, DdpmSpec, Panel]:
    """All that networks are made from."""
    data = load_data_spec(ROOT).datasets
    return data, load_node_spec(ROOT), load_ddpm_spec(ROOT), load_panel(ROOT, list(data))


def main() -> None:
    data, node, ddpm, panel = read_inputs(read_settings)
    tune_process()

    from pipeline.audit.architecture import measure_ddpm_study, measure_node_study

    of_node = [
        measure_node_study(node, name, data[name].channels, data[name].classes, panel.datasets[name].node.arms)
        for name in panel.active("node")
    ]
    of_ddpm = [
        measure_ddpm_study(ddpm, name, data[name].channels, panel.datasets[name].ddpm.arms)
        for name in panel.active("ddpm")
    ]
    write_document(ROOT / PATH, Architecture(networks=[*of_node, *of_ddpm]))


if __name__ == "__main__":
    run_stage(main)
