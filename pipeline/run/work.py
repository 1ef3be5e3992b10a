"""Opens a stage's run or case: resolves its settings again and compares them with the file that DVC records."""

import argparse
from dataclasses import dataclass
from typing import Any

from pipeline.run.foreign import digest_factories
from pipeline.run.inputs import ROOT, require_file
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute, Resources, load_compute, load_resources
from pipeline.schema.project import load_project
from pipeline.schema.resolved import case_path, check_resolved, describe_case, describe_run, run_path
from pipeline.schema.study import Run, StudySpec, find_study, load_study_spec, resolve_run


def parse_arguments(doc: str | None, **kinds: type) -> list[Any]:
    """Parse a stage's command line; returns the arguments in order.

    Args:
        doc: the stage's docstring, for --help.
        kinds: the type of each argument, by name.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in kinds.items():
        parser.add_argument(name, type=kind)
    return list(vars(parser.parse_args()).values())


@dataclass(frozen=True)
class Work:
    """A run to do, with its settings."""

    run: Any
    """The resolved run; an instance of the study's run model."""
    spec: StudySpec
    compute: Compute
    resources: Resources
    settings: str
    """Content of the run's file in resolved/."""

    @property
    def name(self) -> str:
        """STUDY/CASE/ARM/SEED."""
        return str(self.run.name)


def open_run(study: str, case: str, arm: str, seed: int) -> Work:
    """Resolve a run.

    Raises:
        SpecError: params.yaml or specs/ have a mistake, or differ from the run's file.
    """
    found = find_study(study)

    def resolve() -> tuple[Run, StudySpec, Compute]:
        spec = load_study_spec(ROOT, study)
        return resolve_run(found, spec, case, arm, seed)[0], spec, load_compute(ROOT)

    run, spec, compute = resolve()

    def describe() -> str:
        run, _, compute = resolve()
        return describe_run(run, compute, digest_factories(ROOT, run))

    settings = require_file(run_path(run), describe, check_resolved)
    return Work(run, spec, compute, load_resources(ROOT), settings)


def open_case(study: str, case: str, name: str) -> str:
    """Resolve a case's settings; returns the content of resolved/STUDY/CASE/NAME.json.

    Raises:
        SpecError: params.yaml or specs/ have a mistake, or differ from the file.
    """

    def describe() -> str:
        project = load_project(ROOT)
        project.require_case(study, case)
        if name not in (found := describe_case(project, study, case)):
            raise SpecError(f"{study} {case}: no stage of it reads settings of the kind {name!r}")
        return found[name]

    return require_file(case_path(study, case, name), describe, check_resolved)


def exact_compute(compute: Compute) -> Compute:
    """The settings for features and scores: no TF32, deterministic kernels."""
    return compute.model_copy(update={"tf32": False, "deterministic": True})
