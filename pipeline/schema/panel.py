"""params.yaml, the control panel: compute, and per dataset which arms and seeds of each study."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from pipeline.schema.base import ArmString, SpecError, Strict, find_duplicate, read_yaml, validate
from pipeline.schema.compute import Compute, Resources

Seed = Annotated[int, Field(ge=0, lt=2**31)]
StudyName = Literal["node", "ddpm"]
STUDIES: tuple[StudyName, ...] = ("node", "ddpm")


class Grid(Strict):
    """The runs of one study on one dataset: every arm with every seed."""

    seeds: list[Seed]
    arms: list[ArmString]


class DatasetPanel(Strict):
    """One dataset's runs."""

    node: Grid
    ddpm: Grid

    def grid(self, study: StudyName) -> Grid:
        """The runs of one study."""
        return self.node if study == "node" else self.ddpm


class Studies(Strict):
    """Which datasets each study runs on."""

    node: list[str]
    ddpm: list[str]


class Panel(Strict):
    """params.yaml."""

    studies: Studies
    compute: Compute
    datasets: dict[str, DatasetPanel] = Field(description="in the file, each dataset is a key at the top")

    def active(self, study: StudyName) -> list[str]:
        """Datasets on which a study runs."""
        return self.studies.node if study == "node" else self.studies.ddpm


def load_panel(root: Path, datasets: list[str]) -> Panel:
    """Read and validate params.yaml.

    Args:
        datasets: the names that specs/data.yaml knows; each is a required key.

    Raises:
        SpecError: the first mistake.
    """
    fields: dict[str, Any] = {"studies": (Studies, ...), "compute": (Compute, ...), "resources": (Resources, ...)}
    fields |= dict.fromkeys(datasets, (DatasetPanel, ...))
    file_model = create_model("ParamsYaml", __base__=Strict, **fields)
    parsed = validate(file_model, read_yaml(root / "params.yaml"), "params.yaml")
    panel = Panel(
        studies=parsed.studies,  # type: ignore[attr-defined]
        compute=parsed.compute,  # type: ignore[attr-defined]
        datasets={name: getattr(parsed, name) for name in datasets},
    )
    for study in STUDIES:
        _check_study(panel, study)
    return panel


def _check_study(panel: Panel, study: StudyName) -> None:
    active = panel.active(study)
    known = ", ".join(panel.datasets)
    for name in active:
        if name not in panel.datasets:
            raise SpecError(f"params.yaml: studies.{study}: unknown dataset {name!r}; allowed: {known}")
    if (twice := find_duplicate(active)) is not None:
        raise SpecError(f"params.yaml: studies.{study}: {twice!r} is listed twice")
    for name, dataset in panel.datasets.items():
        grid, where = dataset.grid(study), f"params.yaml: {name}.{study}"
        for key, items in (("arms", grid.arms), ("seeds", grid.seeds)):
            if (twice := find_duplicate(items)) is not None:
                raise SpecError(f"{where}.{key}: {twice!r} is listed twice")
            if name in active and not items:
                raise SpecError(
                    f"{where}.{key} is empty, but studies.{study} lists {name!r}: fill it or take {name!r} out"
                )
        if grid.arms and name not in active:
            raise SpecError(
                f"{where}.arms is not empty, but studies.{study} lacks {name!r}: add it there, or empty the list"
            )
