"""What a stage works on: a run or a case, resolved anew and compared with the file that DVC will record."""

import argparse
from dataclasses import dataclass
from typing import Any

from pipeline.run.inputs import ROOT, require_file
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute, Resources, load_compute, load_resources
from pipeline.schema.project import load_project
from pipeline.schema.resolved import case_path, check_resolved, describe_case, describe_run, run_path
from pipeline.schema.study import Run, StudySpec, find_study, load_study_spec, resolve_run


def parse_arguments(doc: str | None, **kinds: type) -> list[Any]:
    """The arguments of a stage's command line, in order.

    Args:
        doc: the stage's docstring, for --help.
        kinds: name and type of each.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in kinds.items():
        parser.add_argument(name, type=kind)
    return list(vars(parser.parse_args()).values())


@dataclass(frozen=True)
class Work:
    """A run to be done."""

    run: Any
    """Of the study's own model."""
    spec: StudySpec
    compute: Compute
    resources: Resources
    settings: str
    """The content of its file in resolved/."""

    @property
    def name(self) -> str:
        """STUDY/CASE/ARM/SEED."""
        return str(self.run.name)


def open_run(study: str, case: str, arm: str, seed: int) -> Work:
    """Resolve a run.

    Raises:
        SpecError: a mistake in params.yaml or specs/, or settings that are not those of the run's file.
    """
    found = find_study(study)

    def resolve() -> tuple[Run, StudySpec, Compute]:
        spec = load_study_spec(ROOT, study)
        return resolve_run(found, spec, case, arm, seed)[0], spec, load_compute(ROOT)

    run, spec, compute = resolve()

    def describe() -> str:
        run, _, compute = resolve()
        return describe_run(run, compute)

    settings = require_file(run_path(run), describe, check_resolved)
    return Work(run, spec, compute, load_resources(ROOT), settings)


def open_case(study: str, case: str, name: str) -> str:
    """What resolved/STUDY/CASE/NAME.json says of a case.

    Raises:
        SpecError: a mistake in params.yaml or specs/, or settings that are not those of the file.
    """

    def describe() -> str:
        project = load_project(ROOT)
        project.study(study)
        if case not in project.specs[study].cases:
            known = ", ".join(project.specs[study].cases)
            raise SpecError(f"no case {case!r} of {study}; there are {known}")
        return describe_case(project, study, case)[name]

    return require_file(case_path(study, case, name), describe, check_resolved)


def exact_compute(compute: Compute) -> Compute:
    """For features and scores: float32, and the same each time."""
    return compute.model_copy(update={"tf32": False, "deterministic": True})
