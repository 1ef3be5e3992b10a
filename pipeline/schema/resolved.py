"""resolved/: the settings of each stage, written by the stage `check`. A stage depends on its own file only.

resolved/STUDY/CASE/ARM/SEED.json holds a run, resolved/STUDY/CASE/NAME.json the settings of another stage of the case.
Fields that equal the schema's defaults are left out, and defaults are frozen. So a new field, whose default is the old
behaviour, changes no file.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from pipeline.schema.base import OUTDATED, SpecError, read_json, validate
from pipeline.schema.compute import Compute
from pipeline.schema.data import ClassifierExtractor, Dataset, InceptionExtractor
from pipeline.schema.files import write_file
from pipeline.schema.project import Project
from pipeline.schema.study import Run, find_study

FOLDER = "resolved"
RunT = TypeVar("RunT", bound=Run)
Digest = Callable[[Run], Mapping[str, str]]
"""Digests, by file, of the user's code that a run names."""


def run_path(run: Run) -> Path:
    """The file of a resolved run, relative to the root."""
    return Path(FOLDER) / f"{run.name}.json"


def case_path(study: str, case: str, name: str) -> Path:
    """The file of a case's settings for a stage, relative to the root."""
    return Path(FOLDER) / study / case / f"{name}.json"


def _write(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _dump(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_defaults=True)


def describe_run(run: Run, compute: Compute, code: Mapping[str, str] | None = None) -> str:
    """The content of a resolved run's file; its outputs hold the same as run.json.

    Args:
        code: digests, by file, of the user's code that the run names.
    """
    head = {"study": run.study, "case": run.case, "arm": str(run.arm), "seed": run.seed}
    return _write({"run": head | _dump(run), "compute": _dump(compute)} | ({"code": dict(code)} if code else {}))


def _describe_data(dataset: Dataset, image_size: int) -> dict[str, Any]:
    return {
        "source": dataset.source.model_dump(mode="json"),
        "classes": dataset.classes,
        "channels": dataset.channels,
        "image_size": image_size,
    }


def describe_case(project: Project, study: str, case: str) -> dict[str, str]:
    """The contents of a case's other files, by name: settings of data, extractor and the stages after training."""
    found: dict[str, Any] = {}
    compute, dataset = _dump(project.panel.compute), project.case(study, case).dataset
    if dataset is not None:
        image_size = project.baseline(study, case).training.image_size  # type: ignore[attr-defined]
        found["data"] = _describe_data(dataset, image_size)
    if dataset is not None and find_study(study).extractor:
        extractor = dataset.extractor.model_dump(mode="json")
        found["extractor"] = {"extractor": extractor, "train_images": dataset.train_images, "compute": compute}
    for name, settings in project.later(study, case).items():
        found[name] = {name: settings.model_dump(mode="json"), "compute": compute}
    return {name: _write(content) for name, content in found.items()}


def describe_all(project: Project, digest: Digest) -> Iterator[tuple[Path, str]]:
    """Every file of resolved/ and its content."""
    for run in project.runs():
        yield run_path(run), describe_run(run, project.panel.compute, digest(run))
    for study, cases in project.panel.cases.items():
        # So that the folder, on which the study's views depend, is there without a case too.
        yield Path(FOLDER) / study / "cases.json", _write({"cases": cases})
        for case in cases:
            for name, content in describe_case(project, study, case).items():
                yield case_path(study, case, name), content


def write_resolved(root: Path, project: Project, digest: Digest) -> None:
    """Replace all files of resolved/."""
    contents = list(describe_all(project, digest))
    shutil.rmtree(root / FOLDER, ignore_errors=True)
    for path, content in contents:
        write_file(root / path, content)
    for study in project.specs:  # a view of a study that runs on nothing depends on no record
        (root / "records" / study).mkdir(parents=True, exist_ok=True)


def check_resolved(root: Path, path: Path, content: str) -> None:
    """Refuse to run with settings that differ from the file that DVC will record.

    Raises:
        SpecError: the file is missing, or differs from params.yaml and specs/.
    """
    try:
        written = (root / path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: not there; `dvc repro check` writes it") from None
    if written != content:
        raise SpecError(f"{path}: not what params.yaml and specs/ say now: nothing was run; run `dvc repro check`")


def read_run(path: Path, model: type[RunT]) -> tuple[RunT, Compute]:
    """Read run.json from a run's outputs: the resolved run, and its compute settings.

    Raises:
        SpecError: the file is damaged, or was written by another version.
    """
    content = read_json(path, str(path))
    if not isinstance(content, dict) or not isinstance(content.get("run"), dict):
        raise SpecError(f"{path}: not a resolved run{OUTDATED}")
    compute = validate(Compute, content.get("compute", {}), str(path), "compute", OUTDATED)
    return validate(model, content["run"], str(path), "run", OUTDATED), compute


def read_extractor(settings: str) -> ClassifierExtractor | InceptionExtractor:
    """Read the extractor's settings from the content of resolved/STUDY/CASE/extractor.json."""
    adapter: TypeAdapter[Any] = TypeAdapter(Dataset.model_fields["extractor"].rebuild_annotation())
    found: ClassifierExtractor | InceptionExtractor = adapter.validate_python(json.loads(settings)["extractor"])
    return found
