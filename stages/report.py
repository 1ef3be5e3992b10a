"""report: the whole report, from records, curves, ledger, architecture and pictures of samples.

-> reports/README.md, verdicts.md, claims.md, records.csv, index.html and share.png. No torch.
"""

from pathlib import Path

from pipeline.report.claims import list_claims
from pipeline.report.page import render_report
from pipeline.report.sections import gather
from pipeline.report.share import draw_share
from pipeline.report.sources import read_sources
from pipeline.report.tidy import render_csv
from pipeline.report.verdicts import render_claims, render_verdicts
from pipeline.report.webpage import render_webpage
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.files import write_file
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    sources = read_sources(ROOT, read_inputs(lambda: load_project(ROOT)))
    claims, reports = list_claims(sources.project), ROOT / "reports"
    write_file(reports / "verdicts.md", render_verdicts(claims, sources.verdicts))
    write_file(reports / "claims.md", render_claims(claims, sources.verdicts))
    write_file(reports / "records.csv", render_csv(sources.panels))
    write_file(reports / "README.md", render_report(sources))
    write_file(reports / "index.html", render_webpage(gather(sources)))
    write_file(reports / "share.png", draw_share(sources))


if __name__ == "__main__":
    run_stage(main)
