"""render TABLE: records and specs/STUDY/tables/TABLE.yaml -> reports/TABLE.md, .tex and .csv."""

import argparse
from pathlib import Path

from pipeline.report.latex import write_latex
from pipeline.report.markdown import render_grid
from pipeline.report.panel import read_panels
from pipeline.report.protocol import describe_baseline
from pipeline.report.sheet import write_csv
from pipeline.report.tables import lay_out
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.files import write_file
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table")
    name = parser.parse_args().table
    project = read_inputs(lambda: load_project(ROOT))
    if name not in project.tables:
        raise ValueError(f"no table {name!r} in specs/; there are {', '.join(project.tables)}")
    table = project.tables[name]
    panels = read_panels(ROOT, project, table.study)
    grid = lay_out(table, panels, lambda case: describe_baseline(project, table.study, case))
    reports = ROOT / "reports"
    write_file(reports / f"{name}.md", render_grid(grid))
    write_file(reports / f"{name}.tex", write_latex(grid, name))
    write_file(reports / f"{name}.csv", write_csv(grid))


if __name__ == "__main__":
    run_stage(main)
