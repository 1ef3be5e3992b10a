"""render TABLE: records and specs/tables/TABLE.yaml -> reports/TABLE.md, .tex and .csv."""

import argparse
from pathlib import Path

from pipeline.process import run_stage
from pipeline.report.latex import write_latex
from pipeline.report.markdown import render_grid
from pipeline.report.panel import read_panel
from pipeline.report.sheet import write_csv
from pipeline.report.tables import lay_out
from pipeline.schema.panel import StudyName
from pipeline.schema.project import Project, load_project

ROOT = Path()


def describe_baseline(project: Project, study: StudyName, dataset: str) -> list[str]:
    """How a dataset's baseline differs from the paper's, and its training; fields and values as in specs/."""
    run = project.resolve(study, dataset, "baseline", 0).model_dump()
    bases = {"network": project.node.base.model_dump()} if study == "node" else project.ddpm.base.model_dump()
    lines = []
    for name, base in bases.items():
        differing = {key: value for key, value in run[name].items() if value != base[key]}
        what = f", with {list_fields(differing)}" if differing else ", unchanged"
        lines.append(f"baseline's {name}: the base of specs/{study}.yaml, which is the paper's{what}")
    return [*lines, f"training: {list_fields(run['training'])}"]


def list_fields(values: dict[str, object]) -> str:
    """Fields and values on one line."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    name = parser.parse_args().table
    project = load_project(ROOT)
    if name not in project.tables:
        raise ValueError(f"no table {name!r} in specs/tables; there are {', '.join(project.tables)}")
    table = project.tables[name]
    panels = [read_panel(ROOT, project, table.study, dataset) for dataset in project.panel.active(table.study)]
    grid = lay_out(table, panels, lambda dataset: describe_baseline(project, table.study, dataset))
    reports = ROOT / "reports"
    reports.mkdir(exist_ok=True)
    (reports / f"{name}.md").write_text(render_grid(grid), encoding="utf-8")
    (reports / f"{name}.tex").write_text(write_latex(grid, name), encoding="utf-8")
    (reports / f"{name}.csv").write_text(write_csv(grid), encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
