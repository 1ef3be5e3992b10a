"""Arms: variants of a study's baseline, written `baseline` or `field=value[,field=value]`."""

import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, StringConstraints, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pipeline.schema.base import SpecError
from pipeline.schema.mistakes import find_meant, say

BASELINE = "baseline"
_OVERRIDE = re.compile(r"^([a-z][a-z0-9_]*)=([A-Za-z0-9._+:-]+)\Z")


def _require_text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"an arm is {BASELINE}, or field=value without blanks or a colon, as norm=batch")
    return value


ArmString = Annotated[str, BeforeValidator(_require_text), StringConstraints(min_length=1, max_length=200)]
"""An arm as written: `baseline`, or `field=value[,field=value]`."""


@dataclass(frozen=True)
class Fixed:
    """Marks a field that no arm may override, because it belongs to the case."""


class Arm(str):
    """An arm's canonical name: a string with the parsed overrides.

    Canonical means: fields in the order of the schema, values in their shortest spelling, none equal to the baseline's.
    So a variant has one name, and is trained once.
    """

    overrides: Mapping[str, Any]

    def __new__(cls, overrides: Mapping[str, Any]) -> "Arm":
        """The arm of canonical overrides."""
        arm = super().__new__(cls, ",".join(f"{name}={_spell(value)}" for name, value in overrides.items()) or BASELINE)
        arm.overrides = overrides
        return arm

    def __getnewargs__(self) -> tuple[Any, ...]:
        """What copies and pickles are made from."""
        return (self.overrides,)


@dataclass(frozen=True)
class ArmField:
    """A field that an arm may override."""

    part: str
    """Part of the run that holds the field: `network`, `training`, ..."""
    info: FieldInfo


def _is_scalar(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return all(
            _is_scalar(part) for part in get_args(annotation)[: 1 if get_origin(annotation) is Annotated else None]
        )
    return get_origin(annotation) not in (list, dict, tuple)


@cache
def list_fields(run: type[BaseModel]) -> dict[str, ArmField]:
    """The fields of a run's parts that an arm may override, in an arm's order."""
    found: dict[str, ArmField] = {}
    for part, holder in run.model_fields.items():
        if isinstance(holder.annotation, type) and issubclass(holder.annotation, BaseModel):
            for name, info in holder.annotation.model_fields.items():
                if _is_scalar(info.annotation) and not any(isinstance(mark, Fixed) for mark in info.metadata):
                    assert name not in found, f"{name} is a field of two parts: an arm could not tell them apart"
                    found[name] = ArmField(part, info)
    return found


def list_parts(run: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The parts of a run's settings (`network`, `training`, ...) and their models, in order."""
    found = {name: field.annotation for name, field in run.model_fields.items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def _adapt(run: type[BaseModel], name: str) -> TypeAdapter[Any]:
    """The parser of a field's value; cached, since building it is the slowest part of reading an arm."""
    field = list_fields(run)[name].info
    return TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]


def parse_arm(text: str, run: type[BaseModel]) -> Arm:
    """Parse an arm as written, with its fields in the order given; it need not be canonical.

    Args:
        run: the study's run model.

    Raises:
        SpecError: a field is unknown or given twice, or its value is not allowed.
    """
    if text == BASELINE:
        return Arm({})
    fields, overrides = list_fields(run), dict[str, Any]()
    for part in text.split(","):
        match = _OVERRIDE.match(part)
        if match is None:
            raise SpecError(
                f"arm {text!r}: {part!r} is not field=value (letters, digits and . _ + - : only) "
                f"nor {BASELINE!r}{find_meant(part, [BASELINE])}"
            )
        name, value = match.groups()
        if name not in fields:
            raise SpecError(f"arm {text!r}: unknown field {name!r}; allowed: {', '.join(fields)}")
        if name in overrides:
            raise SpecError(f"arm {text!r}: {name!r} is given twice")
        try:
            overrides[name] = _adapt(run, name).validate_strings(value)
        except ValidationError as error:
            message = say(error.errors(include_url=False)[0])
            raise SpecError(f"arm {text!r}: {name} = {value!r}: {message}") from None
    return Arm(overrides)


def canonicalise_arm(text: str, baseline: BaseModel) -> Arm:
    """The canonical form of an arm: fields in order, without those that equal the baseline's.

    Args:
        baseline: the run of the arm `baseline`.

    Raises:
        SpecError: as `parse_arm`.
    """
    overrides = parse_arm(text, type(baseline)).overrides
    kept = {name: field for name, field in list_fields(type(baseline)).items() if name in overrides}
    return Arm({
        name: overrides[name]
        for name, field in kept.items()
        if overrides[name] != getattr(getattr(baseline, field.part), name)
    })  # fmt: skip


def resolve_arm(text: str, baseline: BaseModel) -> Arm:
    """Parse an arm that must be canonical.

    Raises:
        SpecError: the arm is wrong or not canonical; the message says how to write it.
    """
    given, arm = parse_arm(text, type(baseline)), canonicalise_arm(text, baseline)
    if arm != text:
        equals = [f"{name}={_spell(value)}" for name, value in given.overrides.items() if name not in arm.overrides]
        why = f" ({', '.join(equals)} is the baseline)" if equals else ""
        raise SpecError(f"arm {text!r} is not canonical{why}; write {str(arm)!r}")
    return arm
