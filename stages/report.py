"""report: verdicts, tables, theory and figures in reports/, sample grids, the ledger -> reports/README.md."""

from pathlib import Path

from pipeline.report.costs import find_mixtures, read_books
from pipeline.report.page import Preview, render_page
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.files import write_file
from pipeline.schema.project import load_project

ROOT = Path()
SECTIONS = (
    "verdicts",
    "table1",
    "table2",
    "table3",
    "table4",
    "theory",
    "level_awareness",
    "figure6",
    "figure7",
    "node_arms",
    "ddpm_arms",
    "ddpm_scores",
)


def main() -> None:
    project = read_inputs(lambda: load_project(ROOT))
    sections = {name: (ROOT / "reports" / f"{name}.md").read_text(encoding="utf-8") for name in SECTIONS}
    previews = [
        Preview(run.dataset, run.arm, run.seed, f"ddpm/{run.dataset}/{run.arm}/{run.seed}.png")
        for run in project.runs()
        if run.study == "ddpm"
    ]
    active = {*project.panel.studies.node, *project.panel.studies.ddpm}
    embedded = any(project.data.datasets[name].scale == "embedded" for name in active)
    warnings = find_mixtures(read_books(ROOT, project.runs()))
    write_file(ROOT / "reports" / "README.md", render_page(sections, previews, embedded, warnings))


if __name__ == "__main__":
    run_stage(main)
