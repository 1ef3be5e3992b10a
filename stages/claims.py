"""claims: records and specs/claims.yaml -> reports/verdicts.md (a verdict each) and reports/claims.md (the numbers)."""

from pathlib import Path

from pipeline.report.claims import judge_records
from pipeline.report.verdicts import render_claims, render_verdicts
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.files import write_file
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    project = read_inputs(lambda: load_project(ROOT))
    pages = judge_records(ROOT, project)
    reports = ROOT / "reports"
    write_file(reports / "verdicts.md", render_verdicts(project.claims, pages))
    write_file(reports / "claims.md", render_claims(project.claims, pages))


if __name__ == "__main__":
    run_stage(main)
