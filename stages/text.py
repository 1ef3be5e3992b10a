"""text NAME: records -> reports/NAME.md, a view of specs/report.yaml that its study renders itself. No torch."""

from pathlib import Path

from pipeline.report.panel import read_panels
from pipeline.report.views import render_text
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.run.work import parse_arguments
from pipeline.schema.files import write_file
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    (name,) = parse_arguments(__doc__, text=str)
    project = read_inputs(lambda: load_project(ROOT))
    texts = project.report.texts
    if name not in texts:
        raise ValueError(f"no text {name!r} in specs/report.yaml; there are {', '.join(texts)}")
    text = render_text(name, project, read_panels(ROOT, project, texts[name]))
    write_file(ROOT / "reports" / f"{name}.md", text)


if __name__ == "__main__":
    run_stage(main)
