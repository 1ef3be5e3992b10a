"""Reads params.yaml and specs/ and checks them together. Imports no torch."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.schema.arm import BASELINE, Arm, canonicalise_arm, list_fields, list_parts, parse_arm, resolve_arm
from pipeline.schema.base import SpecError, find_duplicate, validate
from pipeline.schema.claim import ClaimFile, check_ids, load_claims
from pipeline.schema.data import Dataset, DataSpec, load_data_spec
from pipeline.schema.figure import Figure, load_figures
from pipeline.schema.foreign import check_factories
from pipeline.schema.mistakes import add_line
from pipeline.schema.panel import FILE, Panel, load_panel
from pipeline.schema.record import Settings, list_settings
from pipeline.schema.report import ReportSpec, load_report
from pipeline.schema.study import (
    Run,
    Study,
    StudySpec,
    find_study,
    list_studies,
    load_study_spec,
    resolve_baseline,
    resolve_later,
    spec_file,
    vary_baseline,
)
from pipeline.schema.table import Table, load_tables, shown_arms


@dataclass(frozen=True)
class Case:
    """What a study runs on: a dataset, or a target with known truth."""

    name: str
    title: str
    scale: str
    """`embedded` or `paper` for a dataset; `exact` for a target with known truth."""
    dataset: Dataset | None


@dataclass(frozen=True)
class Project:
    """The validated content of params.yaml and specs/."""

    data: DataSpec
    specs: dict[str, StudySpec]
    """By study, in the report's order."""
    panel: Panel
    tables: dict[str, Table]
    figures: dict[str, Figure]
    claims: dict[str, ClaimFile]
    """By study."""
    report: ReportSpec
    _arms: dict[tuple[str, str, str], tuple[Run, Arm]] = field(default_factory=dict, repr=False, compare=False)

    def study(self, name: str) -> Study:
        """The study of that name.

        Raises:
            SpecError: there is none.
        """
        if name not in self.specs:
            raise SpecError(f"no study {name!r}; there are {', '.join(self.specs)}")
        return find_study(name)

    def require_case(self, study: str, case: str) -> None:
        """Refuse a study or a case that is not there."""
        self.study(study)
        if case not in self.specs[study].cases:
            raise SpecError(f"no case {case!r} of {study}; there are {', '.join(self.specs[study].cases)}")

    def case(self, study: str, name: str) -> Case:
        """A case of a study."""
        if find_study(study).cases:
            return Case(name, name, "exact", None)
        dataset = self.data.datasets[name]
        return Case(name, dataset.title, dataset.scale, dataset)

    def baseline(self, study: str, case: str) -> Run:
        """The run of the arm `baseline`, seed 0."""
        return self._resolve_arm(study, case, BASELINE)[0]

    def _resolve_arm(self, study: str, case: str, text: str) -> tuple[Run, Arm]:
        """The run of an arm with seed 0, and the arm; cached, since there may be thousands of runs."""
        key = (study, case, text)
        if key not in self._arms:
            found, spec = self.study(study), self.specs[study]
            baseline = resolve_baseline(found, spec, case) if text == BASELINE else self.baseline(study, case)
            self._arms[key] = vary_baseline(found, spec, baseline, resolve_arm(text, baseline), 0)
        return self._arms[key]

    def vary(self, study: str, case: str, text: str) -> Run:
        """The run of an arm of params.yaml, seed 0."""
        return self._resolve_arm(study, case, text)[0]

    def arm(self, study: str, case: str, text: str) -> Arm:
        """An arm of params.yaml, with its overrides."""
        return self._resolve_arm(study, case, text)[1]

    def resolve(self, study: str, case: str, arm: str, seed: int) -> Run:
        """One run, fully resolved."""
        run = self._resolve_arm(study, case, arm)[0]
        return validate(type(run), {**dict(run), "seed": seed}, f"{study} {case} arm {str(arm)!r}")

    def canonicalise(self, study: str, case: str, arm: str) -> Arm:
        """An arm's canonical form on a case: without fields that equal the baseline's."""
        return canonicalise_arm(arm, self.baseline(study, case))

    def later(self, study: str, case: str) -> dict[str, BaseModel]:
        """A case's settings of the stages after training, by name."""
        return resolve_later(find_study(study), self.specs[study], case)

    def settings(self, run: Run) -> Settings:
        """The current settings that decide a run and its record."""
        parts: dict[str, BaseModel | None] = {name: getattr(run, name) for name in list_parts(type(run))}
        parts |= {"compute": self.panel.compute, **self.later(run.study, run.case)}
        if find_study(run.study).extractor:
            parts["extractor"] = self.data.datasets[run.case].extractor
        return list_settings(**parts)

    def runs(self) -> list[Run]:
        """All runs of params.yaml, by study in the report's order, then by case in the file's order."""
        return [
            self.resolve(study, case, arm, seed)
            for study in self.specs
            for case in self.panel.cases[study]
            for arm, seed in self.panel.grid(study, case).runs()
        ]


def load_project(root: Path) -> Project:
    """Read and check params.yaml and specs/.

    Raises:
        SpecError: the first mistake, as one line naming file, line, key, value and what is allowed.
    """
    try:
        return _load(root)
    except SpecError as error:
        raise SpecError(add_line(root, str(error))) from None


def _load(root: Path) -> Project:
    data, report = load_data_spec(root), load_report(root)
    names = sorted(list_studies(root), key=report.place)
    specs = {name: load_study_spec(root, name) for name in names}
    for name, spec in specs.items():
        _check_cases(name, spec, data)
    panel = load_panel(root, {name: list(spec.cases) for name, spec in specs.items()})
    tables = {name: table for study in specs for name, table in load_tables(root, study).items()}
    figures = {name: figure for study in specs for name, figure in load_figures(root, study).items()}
    claims = {study: load_claims(root, study, tables) for study in specs}
    check_ids(claims)
    of_tables, of_figures = ({name: view.study for name, view in views.items()} for views in (tables, figures))
    report.check_views(names, of_tables, of_figures)
    if (terminal := report.terminal) is not None:
        keys = [column.key for column in tables[terminal.table].columns]
        for key in terminal.columns:
            if key not in keys:
                raise SpecError(f"specs/report.yaml: terminal.columns: unknown key {key!r}; allowed: {', '.join(keys)}")
    project = Project(data, specs, panel, tables, figures, claims, report)
    for study, grids in panel.grids.items():
        for case, grid in grids.items():
            for key, part in (("arms", grid), ("more.arms", grid.more)):
                for index, arm in enumerate(part.arms):
                    try:
                        check_factories(root, project.vary(study, case, arm))
                    except SpecError as error:
                        raise SpecError(f"{FILE}: {study}.{case}.{key}.{index}: {error}") from None
    for name, table in tables.items():
        where = f"specs/{table.study}/tables/{name}.yaml"
        _check_shown(table.cases, specs[table.study], where)
        _check_arms(table.study, table.cases or list(specs[table.study].cases), shown_arms(table), f"{where}: rows")
    for name, figure in figures.items():
        where = f"specs/{figure.study}/figures/{name}.yaml"
        _check_shown(figure.cases, specs[figure.study], where)
        key = "fixed" if figure.kind == "sweep" else "rows"
        _check_arms(figure.study, figure.cases or list(specs[figure.study].cases), figure.arms, f"{where}: {key}")
    for study, file in claims.items():
        for index, claim in enumerate(file.claims):
            where = f"specs/{study}/claims.yaml: claims.{index}"
            _check_shown(claim.cases, specs[study], where)
            _check_arms(study, claim.cases or list(specs[study].cases), claim.arms(), f"{where}.comparisons")
    return project


def _check_cases(name: str, spec: StudySpec, data: DataSpec) -> None:
    """Refuse unknown cases, and settings of a case that contradict each other."""
    study, file = find_study(name), spec_file(name)
    known = study.cases or tuple(data.datasets)
    for case in spec.cases:
        if case not in known:
            kind = "case" if study.cases else "dataset"
            raise SpecError(f"{file}: cases: unknown {kind} {case!r}; allowed: {', '.join(known)}")
        dataset: Any = None if study.cases else data.datasets[case]
        try:
            study.check_case(resolve_baseline(study, spec, case), resolve_later(study, spec, case), dataset)
        except SpecError as error:
            raise SpecError(f"{file}: cases.{case}.{error}") from None


def _check_shown(cases: list[str] | None, spec: StudySpec, file: str) -> None:
    """Refuse cases of a view that its study does not have, or one named twice."""
    for case in cases or []:
        if case not in spec.cases:
            raise SpecError(f"{file}: cases: unknown case {case!r}; allowed: {', '.join(spec.cases)}")
    if (twice := find_duplicate(cases or [])) is not None:
        raise SpecError(f"{file}: cases: {twice!r} is listed twice")


def _check_arms(study: str, cases: Iterable[str], arms: list[str], where: str) -> None:
    """Refuse arms of a view that could be in no params.yaml, whatever the baselines of its cases."""
    for model in dict.fromkeys(find_study(study).run_on(case) for case in cases):
        for arm in arms:
            try:
                given = list(parse_arm(arm, model).overrides)
            except SpecError as error:
                raise SpecError(f"{where}: {error}") from None
            if given != (order := [name for name in list_fields(model) if name in given]):
                raise SpecError(f"{where}: arm {arm!r}: the order of its fields is {', '.join(order)}")
