"""A claim of the paper as comparisons of records: each holds, fails, is undecided, has too few seeds or was not run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.schema.arm import BASELINE, ArmString
from pipeline.schema.base import SpecError, Strict, find_duplicate, read_yaml, validate
from pipeline.schema.figure import check_field, check_fixed
from pipeline.schema.study import find_study, numeric_keys
from pipeline.schema.table import Table

Direction = Literal["<", ">"]


class Measured(Strict):
    """What every comparison says: the quantity."""

    key: str = Field(description="key of the record")
    digits: int = Field(
        default=2, ge=0, le=6, description="decimals shown; of `equal`, those to which the means must agree"
    )


class Swept(Measured):
    """What a comparison along a sweep says: the arms that override what `fixed` does, and at most x and series."""

    x: str
    series: str | None = Field(default=None, description="a field; each of its values is judged by itself")
    fixed: ArmString = Field(default=BASELINE, description="what all arms override alike")

    @model_validator(mode="after")
    def _check_fixed(self) -> Self:
        check_fixed(self.fixed, self.x, self.series)
        return self


class Effect(Measured):
    """One arm lies below or above another: the difference, paired by seed."""

    kind: Literal["effect"]
    arm: ArmString
    direction: Direction
    reference: ArmString

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.arm == self.reference:
            raise ValueError(f"arm and reference are both {self.arm!r}")
        return self


class Equal(Measured):
    """An arm's mean over seeds is a number, or that of another arm, to `digits` decimals."""

    kind: Literal["equal"]
    arm: ArmString
    value: float | None = Field(default=None, description="the number")
    reference: ArmString | None = Field(default=None, description="the other arm")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.value is None) == (self.reference is None):
            raise ValueError("equal needs either value or reference")
        if self.arm == self.reference:
            raise ValueError(f"arm and reference are both {self.arm!r}")
        return self


class Trend(Swept):
    """Along the arms that vary x, the least-squares slope against log2(x), a seed at a time, is below or above 0."""

    kind: Literal["trend"]
    without: float | str | None = Field(
        default=None, description="a value of x that the slope leaves out: a number, or a field of the same run"
    )
    direction: Direction


class Extreme(Swept):
    """Among the arms that vary x, the one at a value lies below or above all others: their mean, and the nearest."""

    kind: Literal["lowest", "highest"]
    at: float | str = Field(description="the value of x: a number, or a field of the same run")
    most: bool = Field(default=False, description="more than half of the series suffice, over all cases of one scale")


class Split(Measured):
    """The mean over the arms with x above one bound lies below or above that over the arms up to another."""

    kind: Literal["split"]
    x: str
    above: float
    up_to: float
    direction: Direction

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.up_to > self.above:
            raise ValueError(f"up_to = {self.up_to:g} is greater than above = {self.above:g}: an arm would be in both")
        return self


class Agrees(Measured):
    """An arm's number is the one that theory gives.

    With `tolerance`: every seed's lies so near to it. Without: the mean over seeds lies within `errors` standard errors
    of it, of the record's KEY_stderr for each seed. So one seed is enough.
    """

    kind: Literal["agrees"]
    arm: ArmString
    exact: float | None = Field(default=None, description="the number; null: the record's KEY_exact")
    tolerance: float | None = Field(default=None, gt=0, description="null: the record's KEY_stderr decides")
    errors: float = Field(default=3.0, gt=0, description="standard errors of the mean that are allowed")


class Bound(Measured):
    """An arm's mean over seeds lies below or above a number."""

    kind: Literal["bound"]
    arm: ArmString
    direction: Direction
    value: float
    each: bool = Field(default=False, description="every seed's does, however many: what is no matter of chance")


class Slope(Swept):
    """Along the arms that vary x, the least-squares slope of log(key) against log(x), a seed at a time, is a number."""

    kind: Literal["slope"]
    without: float | str | None = Field(
        default=None, description="a value of x that the slope leaves out: a number, or a field of the same run"
    )
    slope: float
    tolerance: float = Field(gt=0, description="how far the slope may be from it, with its interval")
    each: bool = Field(default=False, description="every seed's slope lies so near, however many seeds: no chance")


Comparison = Annotated[Effect | Equal | Trend | Extreme | Split | Agrees | Bound | Slope, Field(discriminator="kind")]


class Claim(Strict):
    """One statement, the paper's or ours. It holds where all its comparisons do, and fails where one fails."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    statement: str = Field(min_length=1, description="in our words")
    source: str = Field(min_length=1, description="its place in the paper; or that it is ours")
    table: str | None = Field(default=None, description="the file of tables/ that has the paper's values")
    cases: list[str] | None = Field(default=None, description="cases on which it is judged; null: all of the study")
    comparisons: list[Comparison] = Field(min_length=1)

    def arms(self) -> list[str]:
        """The arms that the comparisons name."""
        named = [getattr(part, name, None) for part in self.comparisons for name in ("arm", "reference", "fixed")]
        return [arm for arm in named if arm is not None]

    def covers(self, case: str) -> bool:
        """Whether it is judged on a case."""
        return self.cases is None or case in self.cases


class ClaimFile(Strict):
    """specs/STUDY/claims.yaml."""

    seeds: int = Field(ge=2, description="fewer decide nothing in a comparison between trained runs")
    claims: list[Claim]


NO_CLAIMS = ClaimFile(seeds=2, claims=[])


def load_claims(root: Path, study: str, tables: dict[str, Table]) -> ClaimFile:
    """Read and validate a study's claims; none where it has no file. Whether arms exist is for the project to say.

    Args:
        tables: those of all studies, by name.
    """
    path = root / "specs" / study / "claims.yaml"
    if not path.is_file():
        return NO_CLAIMS
    name = path.relative_to(root).as_posix()
    file = validate(ClaimFile, read_yaml(path, name), name)
    if (twice := find_duplicate([claim.id for claim in file.claims])) is not None:
        raise SpecError(f"{name}: claims: id {twice!r} is given twice")
    for index, claim in enumerate(file.claims):
        _check_claim(study, claim, f"{name}: claims.{index}", tables)
    return file


def _check_claim(study: str, claim: Claim, where: str, tables: dict[str, Table]) -> None:
    if claim.table is not None:
        known = [name for name, table in tables.items() if table.study == study and table.paper is not None]
        if claim.table not in known:
            raise SpecError(f"{where}.table: unknown table {claim.table!r}; allowed: {', '.join(known)}")
    keys = numeric_keys(find_study(study).record)
    for index, part in enumerate(claim.comparisons):
        here = f"{where}.comparisons.{index}"
        if part.key not in keys:
            raise SpecError(f"{here}.key: unknown key {part.key!r}; allowed: {', '.join(keys)}")
        if isinstance(part, Agrees):
            _check_agrees(part, keys, here)
        if isinstance(part, Trend | Extreme | Split | Slope):
            check_field(study, part.x, f"{here}.x")
        for key in ("series", "without", "at"):
            if isinstance(value := getattr(part, key, None), str):
                check_field(study, value, f"{here}.{key}", numeric=key != "series")


def _check_agrees(part: Agrees, keys: list[str], where: str) -> None:
    for given, name, key in (
        (part.exact, "exact", f"{part.key}_exact"),
        (part.tolerance, "tolerance", f"{part.key}_stderr"),
    ):
        if given is None and key not in keys:
            raise SpecError(f"{where}.{name}: missing, and the record has no {key!r}")


def check_ids(claims: Mapping[str, ClaimFile]) -> None:
    """Refuse an id that claims of two studies have: the report names a claim by it alone.

    Args:
        claims: the file of each study.
    """
    studies = dict[str, str]()
    for study, file in claims.items():
        for claim in file.claims:
            if (other := studies.setdefault(claim.id, study)) != study:
                raise SpecError(f"specs/{study}/claims.yaml: claims: id {claim.id!r} is one of {other}'s too")
