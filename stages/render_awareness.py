"""render_awareness: records of the DDPM study -> reports/level_awareness.md."""

from pathlib import Path

from pipeline.report.awareness import render_awareness
from pipeline.report.panel import read_panel
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.files import write_file
from pipeline.schema.project import load_project
from pipeline.studies.ddpm.study import resolve_ddpm_run

ROOT = Path()


def main() -> None:
    project = read_inputs(lambda: load_project(ROOT))
    panels = [read_panel(ROOT, project, "ddpm", dataset) for dataset in project.panel.active("ddpm")]
    text = render_awareness(panels, lambda dataset, arm: resolve_ddpm_run(project.ddpm, dataset, arm, seed=0))
    path = ROOT / "reports" / "level_awareness.md"
    write_file(path, text)


if __name__ == "__main__":
    run_stage(main)
