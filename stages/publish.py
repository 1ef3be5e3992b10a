"""publish: records, sample grids, the Markdown of theory and level-awareness -> reports/index.html."""

from pathlib import Path

from pipeline.report.sections import gather
from pipeline.report.webpage import render_webpage
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.files import write_file
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    page = render_webpage(gather(ROOT, read_inputs(lambda: load_project(ROOT))))
    write_file(ROOT / "reports" / "index.html", page)


if __name__ == "__main__":
    run_stage(main)
