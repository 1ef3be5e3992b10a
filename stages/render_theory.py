"""render_theory: records/theory.json -> reports/theory.md."""

from pathlib import Path

from pipeline.report.theory import render_theory
from pipeline.run.process import run_stage
from pipeline.schema.files import write_file
from pipeline.schema.theory import read_theory

ROOT = Path()


def main() -> None:
    path = ROOT / "reports" / "theory.md"
    write_file(path, render_theory(read_theory(ROOT)))


if __name__ == "__main__":
    run_stage(main)
