"""Studies as the shared code sees them: a question with its own arms and record, looked up by name.

A study's code is in pipeline/studies/. Its baseline, budgets and texts are in specs/NAME/study.yaml.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from pipeline.schema.arm import BASELINE, Arm, ArmField, list_fields, list_parts, resolve_arm
from pipeline.schema.base import SpecError, Strict, merge, read_yaml, validate

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Step = Literal["train", "sample", "evaluate", "measure"]
"""A step of a run; each step has its own stage."""
_PACKAGE = "pipeline.studies"
STUDY_FILE = "study.yaml"


class Run(Strict):
    """A fully resolved run. A study's own model adds the parts of its settings, such as `network` and `training`."""

    study: str
    case: str
    arm: str
    seed: Seed

    @property
    def name(self) -> str:
        """STUDY/CASE/ARM/SEED: its folder in runs/, samples/ and others."""
        return f"{self.study}/{self.case}/{self.arm}/{self.seed}"


class MeasuredRecord(Strict):
    """The record of a run that is measured in one step; a study's own model adds the numbers.

    Where the truth is known, a number `x` has `x_exact` and `x_stderr` beside it: claims of kind `agrees` compare them.
    """

    status: Literal["completed"] = "completed"
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the run; the stage adds them")


class MeasureError(ArithmeticError):
    """A measured run failed: its record says so, and the other runs go on.

    Args:
        step: optimiser steps done before.
    """

    def __init__(self, reason: str, step: int = 0) -> None:
        super().__init__(reason)
        self.step = step


@dataclass(frozen=True)
class Curve:
    """A quantity that is followed over training."""

    name: str
    """Name of the file and the column."""
    over: Literal["epoch", "step"]
    history: str | None
    """Its column in a run's history.tsv; None: `Study.points` finds it in the record."""
    title: str


def _no_check(*_: Any) -> None:
    """Refuse nothing."""


def _no_points(*_: Any) -> list[tuple[int, float]]:
    return []


def _no_sets(_: Any) -> list[Mapping[str, float]]:
    return []


class Story(Strict):
    """What the page says of a study, as Markdown; `source` says what it follows."""

    shows: str = Field(min_length=1, description="what the study shows, in a sentence or two")
    lacks: str = Field(min_length=1, description="what it does not show")


class StudySpec(Strict):
    """specs/NAME/study.yaml. A field that is missing in a part has the schema's default."""

    title: str = Field(min_length=1, description="the study's name in the report")
    source: str = Field(min_length=1, description="source of the baseline")
    story: Story | None = Field(default=None, description="what the page says of it")
    headline: list[str] = Field(min_length=1, description="keys of the record that `dvc metrics` shows")
    base: dict[str, dict[str, Any]] = Field(description="the baseline, by part and field")
    cases: dict[str, dict[str, dict[str, Any]]] = Field(
        description="each case's changes to the baseline, by part and field, and settings of the later stages"
    )


@dataclass(frozen=True)
class Study:
    """The interface between a study and the shared code."""

    name: str
    run: type[Run]
    """Model of a run. An arm may override the fields of its parts, in this order. New fields come last; their default
    is the old behaviour."""
    record: type[BaseModel]
    """Model of a record. Its numeric fields are the keys of tables, figures and claims."""
    measure: Callable[[Any], MeasuredRecord] | None = None
    """Computes a run in one step on the CPU, called by stages/measure.py; it may raise `MeasureError`. None: the study
    has its own stages."""
    cases: tuple[str, ...] = ()
    """Its cases, if they are not datasets of specs/data.yaml."""
    others: Mapping[str, type[Run]] = field(default_factory=dict)
    """Models of a run on cases with a network of another kind; `run` serves all other cases. Parts of one name have one
    model."""
    later: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    """Models of a case's settings for the stages after training, by name. They are not part of a model's identity."""
    extractor: bool = False
    """Whether samples are scored with the extractor of the dataset."""
    steps: tuple[Step, ...] = ("measure",)
    curves: tuple[Curve, ...] = ()
    points: Callable[[Any, Curve], Sequence[tuple[int, float]]] = _no_points
    """(record, curve) -> (step, value) points of a curve that is in the record."""
    sets: Callable[[Any], Sequence[Mapping[str, float]]] = _no_sets
    """record -> the numbers of each sample set, by key."""
    coordinates: Mapping[str, Callable[[Any], float]] = field(default_factory=dict)
    """By field: run -> its coordinate in figures, if that is not the field's value."""
    spec: type[StudySpec] = StudySpec
    """Model of its study.yaml, if that has additional keys."""
    check_arm: Callable[[Any, Arm, Any], None] = _no_check
    """(run, arm, spec): refuses an override without effect."""
    check_case: Callable[..., None] = _no_check
    """(baseline, later, dataset): refuses settings of a case that contradict each other."""
    kept: tuple[str, ...] = ()
    """Name prefixes of the stages whose costly outputs `keep` can keep."""
    traces: str | None = None
    """Module that compares the golden traces of these outputs."""
    views: str | None = None
    """The module with its own parts of the report."""
    costs: str | None = None
    """The module that prices its steps for the plan: `STEPS`, `price`; and, of a network, `count_params`."""

    def run_on(self, case: str) -> type[Run]:
        """Model of a run on a case."""
        return self.others.get(case, self.run)

    def list_models(self) -> list[type[Run]]:
        """The models of a run, each once."""
        return list(dict.fromkeys([self.run, *self.others.values()]))

    def list_parts(self) -> dict[str, type[BaseModel]]:
        """The parts of a run's settings on any case, and their models."""
        return {name: part for model in self.list_models() for name, part in list_parts(model).items()}

    def list_fields(self) -> dict[str, ArmField]:
        """The fields that an arm may override on any case."""
        return {name: found for model in self.list_models() for name, found in list_fields(model).items()}


def list_studies(root: Path) -> list[str]:
    """Names of all studies: the folders of specs/ that hold a study.yaml."""
    return sorted(path.parent.name for path in (root / "specs").glob(f"*/{STUDY_FILE}"))


@cache
def find_study(name: str) -> Study:
    """The study of that name: `STUDY` in pipeline/studies/NAME.py or pipeline/studies/NAME/study.py.

    Raises:
        SpecError: there is none.
    """
    folder = Path(__file__).parent.parent / "studies"
    found = [path for path in (folder / f"{name}.py", folder / name / "study.py") if path.is_file()]
    if not found:
        raise SpecError(f"specs/{name}/{STUDY_FILE}: no study {name!r} in pipeline/studies/")
    module = f"{_PACKAGE}.{name}" if found[0].name == f"{name}.py" else f"{_PACKAGE}.{name}.study"
    study: Study = import_module(module).STUDY
    assert study.name == name, f"{module}: its name is {study.name!r}"
    return study


def spec_file(study: str) -> str:
    """Path of a study's file, for messages."""
    return f"specs/{study}/{STUDY_FILE}"


def load_study_spec(root: Path, name: str) -> StudySpec:
    """Read specs/NAME/study.yaml, and validate each case's baseline and later settings.

    Raises:
        SpecError: the first mistake.
    """
    study, file = find_study(name), spec_file(name)
    spec = validate(study.spec, read_yaml(root / file, file), file)
    parts = study.list_parts()
    for part, given in spec.base.items():
        if part not in parts:
            raise SpecError(f"{file}: base.{part}: unknown key {part}; allowed: {', '.join(parts)}")
        for key in given:  # which would else show where a case changes the part
            if key not in parts[part].model_fields:
                allowed = ", ".join(parts[part].model_fields)
                raise SpecError(f"{file}: base.{part}: unknown key {key}; allowed: {allowed}")
    keys = numeric_keys(study.record)
    for key in spec.headline:
        if key not in keys:
            raise SpecError(f"{file}: headline: unknown key {key!r}; allowed: {', '.join(keys)}")
    for case, given in spec.cases.items():
        known = [*list_parts(study.run_on(case)), *study.later]
        for part in given:
            if part not in known:
                raise SpecError(f"{file}: cases.{case}.{part}: unknown key {part}; allowed: {', '.join(known)}")
        resolve_baseline(study, spec, case)
        resolve_later(study, spec, case)
    return spec


def _check_case(study: Study, spec: StudySpec, case: str) -> None:
    if case not in spec.cases:
        raise SpecError(f"{spec_file(study.name)}: cases: {case!r} is not there; known: {', '.join(spec.cases)}")


def resolve_baseline(study: Study, spec: StudySpec, case: str) -> Run:
    """The run of the arm `baseline` with seed 0: the schema's defaults, then the base, then the case."""
    _check_case(study, spec, case)
    file, run, parts = spec_file(study.name), study.run_on(case), {}
    for part, model in list_parts(run).items():
        layers = merge(spec.base.get(part), spec.cases[case].get(part))
        where = f"cases.{case}.{part}" if part in spec.cases[case] else f"base.{part}"
        parts[part] = validate(model, layers, file, where)
    return validate(run, {"study": study.name, "case": case, "arm": BASELINE, "seed": 0, **parts}, file)


def resolve_later(study: Study, spec: StudySpec, case: str) -> dict[str, BaseModel]:
    """A case's settings of the stages after training, by name."""
    _check_case(study, spec, case)
    return {
        name: validate(model, spec.cases[case].get(name, {}), spec_file(study.name), f"cases.{case}.{name}")
        for name, model in study.later.items()
    }


def resolve_run(study: Study, spec: StudySpec, case: str, text: str, seed: int) -> tuple[Run, Arm]:
    """Resolve a run: the schema's defaults, then base, then case, then arm.

    Raises:
        SpecError: the case is unknown, the arm is not canonical, or the study refuses the combination.
    """
    baseline = resolve_baseline(study, spec, case)
    return vary_baseline(study, spec, baseline, resolve_arm(text, baseline), seed)


def vary_baseline(study: Study, spec: StudySpec, baseline: Run, arm: Arm, seed: int) -> tuple[Run, Arm]:
    """Apply an arm to the baseline's run; returns the run and the arm."""
    where, fields = f"{study.name} {baseline.case} arm {str(arm)!r}", list_fields(type(baseline))
    parts = dict[str, BaseModel]()
    for part, model in list_parts(type(baseline)).items():
        own = {name: value for name, value in arm.overrides.items() if fields[name].part == part}
        settings = getattr(baseline, part)
        parts[part] = validate(model, {**settings.model_dump(), **own}, where) if own else settings
    run = validate(type(baseline), {**dict(baseline), "arm": str(arm), "seed": seed, **parts}, where)
    study.check_arm(run, arm, spec)
    return run, arm


_NUMBERS = (int, float, float | None)


def numeric_keys(record: type[BaseModel]) -> list[str]:
    """The keys of a record that hold a number or null; tables, figures and claims may use them."""
    return [name for name, info in record.model_fields.items() if info.annotation in _NUMBERS]
