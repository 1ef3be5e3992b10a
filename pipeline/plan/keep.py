"""`python -m pipeline keep STUDY`: keep a study's models after an edit that changes none of its arms.

Each training and sampling writes a golden trace beside its outputs: a digest of a few steps. `keep` computes the traces
again with the edited code. If all are equal, DVC records the outputs under the new closure, as `dvc commit` does.
"""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.compute.threads import tune_process
from pipeline.plan.dvc.session import Session, StageError, open_session
from pipeline.run.progress import show_progress
from pipeline.schema.base import SpecError
from pipeline.schema.project import Project, load_project
from pipeline.schema.resolved import read_run
from pipeline.schema.study import Run, find_study


def _run_check(root: Path) -> None:
    """Write closures/ and resolved/ anew."""
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "check"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode:
        told = (result.stderr.strip() or result.stdout.strip()).splitlines() or ["it said nothing"]
        raise SpecError(f"dvc repro check: {told[-1]}")


def _find_stale(session: Session, study: str) -> dict[str, list[str]]:
    """The study's stages that DVC would run, each with its changed dependencies and outputs; only kept steps."""
    prefix = find_study(study).kept
    names = [name for name in session.list_needs() if name.split("@")[0].startswith(prefix)]
    changes = {name: session.list_changes(name) for name in names}
    return {name: changed for name, changed in changes.items() if changed}


def _choose_runs(project: Project, study: str) -> Iterator[Run]:
    """One run per case and arm, with the arm's first seed."""
    for case in project.panel.cases[study]:
        for arm, seeds in project.panel.grid(study, case).seeds_by_arm().items():
            yield project.resolve(study, case, arm, seeds[0])


def find_differing(root: Path, study: str, runs: list[Run]) -> list[str]:
    """Arms whose golden traces differ under the current code, one line each.

    Raises:
        SpecError: outputs are missing, so there is nothing to compare with.
    """
    found = find_study(study)
    assert found.traces is not None
    traces: Any = import_module(found.traces)
    differing = []
    with show_progress(len(runs), f"golden traces of {study}", "arm") as bar:
        for run in runs:
            folder = root / "runs" / run.name
            if not (folder / "run.json").is_file():
                raise SpecError(
                    f"{folder.relative_to(root)}: not there: nothing to compare with; `dvc pull`, or train it"
                )
            made, _ = read_run(folder / "run.json", found.run_on(run.case))
            for step, before, now in traces.compare(root, made):
                if before != now:
                    differing.append(f"{run.case} {run.arm}: {step}")
            bar.update()
    return differing


def print_keep(root: Path, study: str) -> None:
    """Keep a study's models after an edit that changes no arm; print what was kept.

    Raises:
        SpecError: an arm changed, or outputs are missing; nothing was recorded.
    """
    project = load_project(root)
    if project.study(study).traces is None:
        raise SpecError(f"{study}: nothing to keep: `dvc repro` measures it anew")
    _run_check(root)
    try:
        with open_session(root, ()) as session:
            stale = _find_stale(session, study)
            only_code = {stage: all(path.startswith("closures/") for path in paths) for stage, paths in stale.items()}
            if not any(only_code.values()):
                print(f"{study}: no model is stale by its code alone")
                return
            compute = project.panel.compute
            tune_process(compute.threads, compute.portable)
            runs = list(_choose_runs(project, study))
            if differing := find_differing(root, study, runs):
                told = "; ".join(differing[:10]) + (f"; and {len(differing) - 10} more" if len(differing) > 10 else "")
                raise SpecError(f"the edit changes what is computed, nothing was kept: {told}; `dvc repro` trains anew")
            kept = [stage for stage, only in only_code.items() if only]
            for stage in kept:
                session.keep(stage)
    except StageError as error:
        raise SpecError(str(error)) from None
    print(f"{study}: the traces of {len(runs)} arms are unchanged: {len(kept)} outputs kept, nothing trained")
    for stage in (stage for stage, only in only_code.items() if not only):
        print(f"not kept, as more than the code changed: {stage}: {', '.join(stale[stage])}")
