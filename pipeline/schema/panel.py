"""params.yaml, the control panel: compute settings, and the arms and seeds of each study and case."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from pipeline.schema.arm import ArmString
from pipeline.schema.base import SpecError, Strict, find_duplicate, read_yaml, validate
from pipeline.schema.compute import Compute, Resources
from pipeline.schema.study import Seed

FILE = "params.yaml"
RESERVED = ("cases", "compute", "resources")
"""Keys of params.yaml that are not studies."""


class More(Strict):
    """A second grid of a study on a case: every arm with every seed."""

    seeds: list[Seed]
    arms: list[ArmString]


class Grid(More):
    """The runs of a study on a case: every arm with every seed, and a second grid with its own seeds."""

    more: More

    def seeds_by_arm(self) -> dict[str, list[int]]:
        """The seeds of each arm, in the file's order."""
        return {arm: grid.seeds for grid in (self, self.more) for arm in grid.arms}

    def runs(self) -> Iterator[tuple[str, int]]:
        """Arm and seed of each run, in the file's order."""
        return ((arm, seed) for arm, seeds in self.seeds_by_arm().items() for seed in seeds)


class Panel(Strict):
    """params.yaml."""

    cases: dict[str, list[str]] = Field(description="active cases of each study")
    compute: Compute
    grids: dict[str, dict[str, Grid]] = Field(
        description="grids by study and case; in the file, each study is a top-level key"
    )

    def grid(self, study: str, case: str) -> Grid:
        """The runs of a study on a case."""
        return self.grids[study][case]


def _model(name: str, fields: dict[str, Any]) -> type[Strict]:
    return create_model(name, __base__=Strict, **fields)


def load_panel(root: Path, cases: Mapping[str, Collection[str]]) -> Panel:
    """Read and validate params.yaml.

    Args:
        cases: the cases in each study's study.yaml; each is a required key.

    Raises:
        SpecError: the first mistake.
    """
    for study in cases:
        if study in RESERVED:
            raise SpecError(f"specs/{study}: {study!r} is no name for a study: {FILE} has a key of that name")
    studies = {study: _model(f"{study}Grids", dict.fromkeys(names, (Grid, ...))) for study, names in cases.items()}
    listed = _model("Cases", dict.fromkeys(cases, (list[str], ...)))
    fields: dict[str, Any] = {"cases": (listed, ...), "compute": (Compute, ...), "resources": (Resources, ...)}
    fields |= {study: (model, ...) for study, model in studies.items()}
    parsed: Any = validate(_model("ParamsYaml", fields), read_yaml(root / FILE, FILE), FILE)
    panel = Panel(
        cases=dict(parsed.cases),
        compute=parsed.compute,
        grids={study: dict(getattr(parsed, study)) for study in studies},
    )
    for study in studies:
        _check_study(panel, study)
    return panel


def _check_study(panel: Panel, study: str) -> None:
    active, grids = panel.cases[study], panel.grids[study]
    for name in active:
        if name not in grids:
            raise SpecError(f"{FILE}: cases.{study}: unknown case {name!r}; allowed: {', '.join(grids)}")
    if (twice := find_duplicate(active)) is not None:
        raise SpecError(f"{FILE}: cases.{study}: {twice!r} is listed twice")
    for name, grid in grids.items():
        _check_grid(grid, f"{FILE}: {study}.{name}")
        where = f"{FILE}: {study}.{name}"
        if name in active and not list(grid.runs()):
            key = "arms" if not grid.arms else "seeds"
            raise SpecError(f"{where}.{key} is empty, but cases.{study} lists {name!r}: fill it or take {name!r} out")
        if name not in active and (grid.arms or grid.more.arms):
            raise SpecError(
                f"{where}.arms is not empty, but cases.{study} lacks {name!r}: add it there, or empty the list"
            )


def _check_grid(grid: Grid, where: str) -> None:
    for prefix, part in (("", grid), ("more.", grid.more)):
        for key, items in (("arms", part.arms), ("seeds", part.seeds)):
            if (twice := find_duplicate(items)) is not None:
                raise SpecError(f"{where}.{prefix}{key}: {twice!r} is listed twice")
        if part.arms and not part.seeds:
            raise SpecError(f"{where}.{prefix}seeds is empty, but {prefix}arms is not: fill it or empty the other")
    for arm in grid.more.arms:
        if arm in grid.arms:
            raise SpecError(f"{where}.more.arms: {arm!r} is in {where.rpartition('.')[2]}.arms too: name it once")
