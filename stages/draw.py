"""draw FIGURE: records and specs/STUDY/figures/FIGURE.yaml -> reports/FIGURE.svg, .pdf and .md."""

import argparse
from pathlib import Path

from pipeline.report.figures import draw_figure, render_figure
from pipeline.report.panel import read_panels
from pipeline.report.pdf import draw_pdf
from pipeline.report.vega import render_svg
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.files import write_file
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figure")
    name = parser.parse_args().figure
    project = read_inputs(lambda: load_project(ROOT))
    if name not in project.figures:
        raise ValueError(f"no figure {name!r} in specs/; there are {', '.join(project.figures)}")
    figure = project.figures[name]
    panels = read_panels(ROOT, project, figure.study)
    reports = ROOT / "reports"
    write_file(reports / f"{name}.svg", render_svg(draw_figure(figure, panels)))
    write_file(reports / f"{name}.pdf", draw_pdf(figure, panels))
    write_file(reports / f"{name}.md", render_figure(figure, name, panels))


if __name__ == "__main__":
    run_stage(main)
