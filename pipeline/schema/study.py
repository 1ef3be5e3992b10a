"""A study: a question with its own arms and record, as the shared code sees it. It is looked up by name.

What it computes is Python, in pipeline/studies/; its baseline, budgets and words are specs/NAME/study.yaml.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from pipeline.schema.arm import BASELINE, Arm, list_fields, list_parts, resolve_arm
from pipeline.schema.base import SpecError, Strict, merge, read_yaml, validate

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Step = Literal["train", "sample", "evaluate", "measure"]
"""What is done for one run, each step by a stage of its own."""
_PACKAGE = "pipeline.studies"
STUDY_FILE = "study.yaml"


class Run(Strict):
    """One run, fully resolved. A study's own model adds the parts of its settings, such as `network` and `training`."""

    study: str
    case: str
    arm: str
    seed: Seed

    @property
    def name(self) -> str:
        """Where its outputs are, below runs/, records/ and others."""
        return f"{self.study}/{self.case}/{self.arm}/{self.seed}"


class MeasuredRecord(Strict):
    """What a study writes of a run that it measures in one step; its own model adds the numbers.

    Where the truth is known, a number `x` has `x_exact` and `x_stderr` beside it: claims of kind `agrees` compare them.
    """

    status: Literal["completed"] = "completed"
    settings: dict[str, Any] = Field(default_factory=dict, description="what decided the run; from the stage")


@dataclass(frozen=True)
class Curve:
    """A quantity over training."""

    name: str
    """File and column."""
    over: Literal["epoch", "step"]
    history: str | None
    """The column of a run's history.tsv that it is; None: `Study.trace` finds it in the record."""
    title: str


def _no_check(*_: Any) -> None:
    """Nothing to refuse."""


def _no_points(*_: Any) -> list[tuple[int, float]]:
    return []


def _no_sets(_: Any) -> list[Mapping[str, float]]:
    return []


class StudySpec(Strict):
    """specs/NAME/study.yaml. A key that is missing in a part means the schema's default."""

    title: str = Field(min_length=1, description="as the report calls the study")
    source: str = Field(min_length=1, description="where its baseline comes from")
    headline: list[str] = Field(min_length=1, description="keys of the record that DVC's own tools show")
    base: dict[str, dict[str, Any]] = Field(description="the baseline: part, field, value")
    cases: dict[str, dict[str, dict[str, Any]]] = Field(
        description="what a case changes: part, field, value; and the settings of later stages"
    )


@dataclass(frozen=True)
class Study:
    """What the shared code needs of a study."""

    name: str
    run: type[Run]
    """Its parts' fields, in order, are what an arm may override. New fields come last, with the old behaviour as
    default."""
    record: type[BaseModel]
    """Its numeric fields are the keys of tables, figures and claims."""
    measure: Callable[[Any], MeasuredRecord] | None = None
    """Computes a run in one step, by stages/measure.py; None: it has stages of its own."""
    cases: tuple[str, ...] = ()
    """What it runs on, where that is no dataset of specs/data.yaml."""
    later: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    """Settings of the stages after the training, by name: a case's, and no part of a model's identity."""
    extractor: bool = False
    """Whether samples are scored in the features of the dataset's extractor."""
    steps: tuple[Step, ...] = ("measure",)
    curves: tuple[Curve, ...] = ()
    points: Callable[[Any, Curve], Sequence[tuple[int, float]]] = _no_points
    """(step, value) of a curve that is in the record."""
    sets: Callable[[Any], Sequence[Mapping[str, float]]] = _no_sets
    """The numbers of each sample set of a record, by key."""
    coordinates: Mapping[str, Callable[[Any], float]] = field(default_factory=dict)
    """How a field takes effect, where that is not its value: run -> coordinate of a figure."""
    spec: type[StudySpec] = StudySpec
    """The model of its study.yaml, where that has keys of its own."""
    check_arm: Callable[[Any, Arm, Any], None] = _no_check
    """(run, arm, spec): refuses an override that changes nothing."""
    check_case: Callable[..., None] = _no_check
    """(baseline, later, dataset): refuses settings of a case that do not go together."""
    kept: tuple[str, ...] = ()
    """Beginnings of the names of the stages whose outputs `keep` keeps: they are costly to make."""
    traces: str | None = None
    """The module that compares the golden traces of these outputs."""
    views: str | None = None
    """The module with its own parts of the report."""
    costs: str | None = None
    """The module that prices its steps for the plan: `STEPS`, `price`; and, of a network, `count_params`."""


def list_studies(root: Path) -> list[str]:
    """Names of the studies: the folders of specs/ with a study.yaml."""
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
    """What messages call a study's file."""
    return f"specs/{study}/{STUDY_FILE}"


def load_study_spec(root: Path, name: str) -> StudySpec:
    """Read specs/NAME/study.yaml and resolve each case's baseline once, so that a mistake in it shows here."""
    study, file = find_study(name), spec_file(name)
    spec = validate(study.spec, read_yaml(root / file, file), file)
    parts = list_parts(study.run)
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
        known = [*parts, *study.later]
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
    file, parts = spec_file(study.name), {}
    for part, model in list_parts(study.run).items():
        layers = merge(spec.base.get(part), spec.cases[case].get(part))
        where = f"cases.{case}.{part}" if part in spec.cases[case] else f"base.{part}"
        parts[part] = validate(model, layers, file, where)
    return validate(study.run, {"study": study.name, "case": case, "arm": BASELINE, "seed": 0, **parts}, file)


def resolve_later(study: Study, spec: StudySpec, case: str) -> dict[str, BaseModel]:
    """A case's settings of the stages after the training, by name."""
    _check_case(study, spec, case)
    return {
        name: validate(model, spec.cases[case].get(name, {}), spec_file(study.name), f"cases.{case}.{name}")
        for name, model in study.later.items()
    }


def resolve_run(study: Study, spec: StudySpec, case: str, text: str, seed: int) -> tuple[Run, Arm]:
    """Schema's defaults, then base, then case, then arm.

    Raises:
        SpecError: unknown case, an arm that is not canonical, or a combination that the study refuses.
    """
    baseline = resolve_baseline(study, spec, case)
    return vary_baseline(study, spec, baseline, resolve_arm(text, baseline), seed)


def vary_baseline(study: Study, spec: StudySpec, baseline: Run, arm: Arm, seed: int) -> tuple[Run, Arm]:
    """The run of an arm, given the baseline's."""
    where, fields = f"{study.name} {baseline.case} arm {str(arm)!r}", list_fields(study.run)
    parts = dict[str, BaseModel]()
    for part, model in list_parts(study.run).items():
        own = {name: value for name, value in arm.overrides.items() if fields[name].part == part}
        settings = getattr(baseline, part)
        parts[part] = validate(model, {**settings.model_dump(), **own}, where) if own else settings
    run = validate(study.run, {**dict(baseline), "arm": str(arm), "seed": seed, **parts}, where)
    study.check_arm(run, arm, spec)
    return run, arm


_NUMBERS = (int, float, float | None)


def numeric_keys(record: type[BaseModel]) -> list[str]:
    """The keys of a record that hold one number (or null): what tables, figures and claims can show."""
    return [name for name, info in record.model_fields.items() if info.annotation in _NUMBERS]
