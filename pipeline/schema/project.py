"""The whole of params.yaml and specs/, read and checked together; no torch."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.schema.base import SpecError
from pipeline.schema.data import DataSpec, load_data_spec
from pipeline.schema.ddpm import DdpmRun, DdpmSpec, load_ddpm_spec, resolve_ddpm_run
from pipeline.schema.node import NodeRun, NodeSpec, load_node_spec, resolve_node_run
from pipeline.schema.panel import STUDIES, Panel, StudyName, load_panel
from pipeline.schema.table import Table, find_tables, load_table

Run = NodeRun | DdpmRun


@dataclass(frozen=True)
class Project:
    """Everything that a user can write, validated."""

    data: DataSpec
    node: NodeSpec
    ddpm: DdpmSpec
    panel: Panel
    tables: dict[str, Table]

    def resolve(self, study: StudyName, dataset: str, arm: str, seed: int) -> Run:
        """One run, fully resolved."""
        if study == "node":
            return resolve_node_run(self.node, dataset, arm, seed)
        return resolve_ddpm_run(self.ddpm, dataset, arm, seed)

    def runs(self) -> list[Run]:
        """Every run that params.yaml asks for, in its order."""
        return [
            self.resolve(study, dataset, arm, seed)
            for study in STUDIES
            for dataset in self.panel.active(study)
            for arm in self.panel.datasets[dataset].grid(study).arms
            for seed in self.panel.datasets[dataset].grid(study).seeds
        ]


def load_project(root: Path) -> Project:
    """Read and check params.yaml and specs/.

    Raises:
        SpecError: the first mistake, as one line naming file, key, value and what is allowed.
    """
    data = load_data_spec(root)
    node, ddpm = load_node_spec(root), load_ddpm_spec(root)
    for study, names in (("node", node.datasets), ("ddpm", ddpm.datasets)):
        for name in names:
            if name not in data.datasets:
                known = ", ".join(data.datasets)
                raise SpecError(f"specs/{study}.yaml: datasets: unknown dataset {name!r}; specs/data.yaml has: {known}")
    for name, node_dataset in node.datasets.items():
        if len(node_dataset.training.mean) != (channels := data.datasets[name].channels):
            raise SpecError(
                f"specs/node.yaml: datasets.{name}.training.mean has {len(node_dataset.training.mean)} values; "
                f"specs/data.yaml says {channels} channels"
            )
    panel = load_panel(root, list(data.datasets))
    project = Project(data, node, ddpm, panel, {name: load_table(root, name) for name in find_tables(root)})
    for study in STUDIES:
        for dataset, grids in panel.datasets.items():
            for index, arm in enumerate(grids.grid(study).arms):
                try:
                    project.resolve(study, dataset, arm, seed=0)
                except SpecError as error:
                    raise SpecError(f"params.yaml: {dataset}.{study}.arms.{index}: {error}") from None
    return project
