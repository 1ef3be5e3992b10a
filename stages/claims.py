"""claims: records and specs/claims.yaml -> reports/verdicts.md (a verdict each) and reports/claims.md (the numbers)."""

from pathlib import Path

from pipeline.process import run_stage
from pipeline.report.claims import judge_claims
from pipeline.report.panel import read_panel
from pipeline.report.verdicts import render_claims, render_verdicts
from pipeline.schema.panel import STUDIES
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    project = load_project(ROOT)
    pages = []
    for dataset in project.panel.datasets:
        studies = [study for study in STUDIES if dataset in project.panel.active(study)]
        if studies:
            panels = {study: read_panel(ROOT, project, study, dataset) for study in studies}
            pages.append(judge_claims(project, dataset, panels))
    reports = ROOT / "reports"
    reports.mkdir(exist_ok=True)
    (reports / "verdicts.md").write_text(render_verdicts(project.claims, pages), encoding="utf-8")
    (reports / "claims.md").write_text(render_claims(project.claims, pages), encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
