"""claims: records and specs/claims.yaml -> reports/verdicts.md (a verdict each) and reports/claims.md (the numbers)."""

from pathlib import Path

from pipeline.inputs import read_inputs
from pipeline.process import run_stage
from pipeline.report.claims import judge_records
from pipeline.report.verdicts import render_claims, render_verdicts
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    project = read_inputs(lambda: load_project(ROOT))
    pages = judge_records(ROOT, project)
    reports = ROOT / "reports"
    reports.mkdir(exist_ok=True)
    (reports / "verdicts.md").write_text(render_verdicts(project.claims, pages), encoding="utf-8")
    (reports / "claims.md").write_text(render_claims(project.claims, pages), encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
