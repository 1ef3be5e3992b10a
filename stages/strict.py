"""strict: the last stage. With resources.strict, it ends with an error that names the failed runs."""

from pathlib import Path

from pipeline.report.panel import list_failed, read_panels
from pipeline.run.inputs import read_inputs
from pipeline.run.process import run_stage
from pipeline.schema.compute import load_resources
from pipeline.schema.project import load_project

ROOT = Path()


def main() -> None:
    project, strict = read_inputs(lambda: (load_project(ROOT), load_resources(ROOT).strict))
    panels = [(study, panel) for study in project.specs for panel in read_panels(ROOT, project, study)]
    failed = [f"{study} {panel.case}: {line}" for study, panel in panels for line in list_failed(panel, panel.arms)]
    if strict and failed:
        raise ValueError("; ".join(failed) + " (params.yaml: resources.strict = true)")


if __name__ == "__main__":
    run_stage(main)
