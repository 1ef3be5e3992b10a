"""What every schema shares: strict models, one-line errors, safe YAML, and the language of arms."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

BASELINE = "baseline"
_OVERRIDE = re.compile(r"^([a-z][a-z0-9_]*)=([a-z0-9._+-]+)$")

ArmString = Annotated[str, StringConstraints(min_length=1, max_length=200)]
"""An arm as written: `baseline`, or `field=value[,field=value]`; `resolve_arm` says whether it is canonical."""


class SpecError(ValueError):
    """A mistake in params.yaml, in specs/ or on the command line; its text is the one line that the user sees."""


class Strict(BaseModel):
    """A model that refuses unknown keys, wrong types, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            unknown = [str(key) for key in value if key not in cls.model_fields]
            if unknown:
                allowed = ", ".join(cls.model_fields)
                raise PydanticCustomError(
                    "unknown_key", "unknown key {key}; allowed: {allowed}", {"key": unknown[0], "allowed": allowed}
                )
        return value


ModelT = TypeVar("ModelT", bound=BaseModel)


def read_yaml(path: Path) -> Any:
    """Parse a YAML file with the parser that DVC uses (YAML 1.2; a repeated key is an error).

    Raises:
        SpecError: the file is missing, is not UTF-8 or is not YAML.
    """
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path.name}: the file is missing; expected at {path}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path.name}: not UTF-8 text (byte {error.start})") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        problem = str(error.problem or error.context).splitlines()[0]
        raise SpecError(f"{path.name}: {where}not valid YAML: {problem}") from None
    except (YAMLError, RecursionError) as error:
        raise SpecError(f"{path.name}: not valid YAML: {str(error).splitlines()[0]}") from None


def _describe(error: ErrorDetails, file: str, prefix: str) -> str:
    key = ".".join([prefix, *map(str, error["loc"])] if prefix else map(str, error["loc"]))
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{file}: {key}: this key is required and missing"
    if error["type"] == "unknown_key" or (error["type"] == "value_error" and isinstance(error["input"], Mapping)):
        return f"{file}: {key + ': ' if key else ''}{message}"
    value = repr(error["input"])
    shown = value if len(value) <= 80 else value[:77] + "..."
    return f"{file}: {key} = {shown}: {message}" if key else f"{file}: {shown}: a mapping of keys is needed"


def validate(model: type[ModelT], data: Any, file: str, prefix: str = "") -> ModelT:
    """Validate parsed YAML; a failure becomes one line naming file, key, value and what is allowed.

    Args:
        prefix: the dotted key at which `data` stands in the file.

    Raises:
        SpecError: the first mistake, and how many more there are.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise SpecError(_describe(details[0], file, prefix) + more) from None


def merge(*layers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge mappings, later over earlier, one level deep."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer or {})
    return merged


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_arm(arm: str, model: type[BaseModel]) -> dict[str, Any]:
    """Read the overrides of an arm as typed values of the fields of `model`.

    Raises:
        SpecError: unknown field, a value that the field does not allow, or a field given twice.
    """
    if arm == BASELINE:
        return {}
    overrides: dict[str, Any] = {}
    for part in arm.split(","):
        match = _OVERRIDE.match(part)
        if match is None:
            raise SpecError(
                f"arm {arm!r}: {part!r} is not field=value (lower-case letters, digits and . _ + - only) "
                f"nor {BASELINE!r}"
            )
        name, text = match.groups()
        field = model.model_fields.get(name)
        if field is None:
            raise SpecError(f"arm {arm!r}: unknown field {name!r}; allowed: {', '.join(model.model_fields)}")
        if name in overrides:
            raise SpecError(f"arm {arm!r}: {name!r} is given twice")
        adapter = TypeAdapter[Any](Annotated[field.annotation, field])  # type: ignore[arg-type]
        try:
            overrides[name] = adapter.validate_strings(text)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"]
            raise SpecError(f"arm {arm!r}: {name} = {text!r}: {message}") from None
    return overrides


def resolve_arm(arm: str, base: BaseModel) -> dict[str, Any]:
    """Overrides of a canonical arm relative to `base`.

    Canonical: fields in the order of the schema, each value in its shortest spelling, none equal to the
    baseline's. So one variant has one name, and is trained once.

    Raises:
        SpecError: the arm is not canonical; the message says how to write it.
    """
    overrides = parse_arm(arm, type(base))
    kept = {name: overrides[name] for name in type(base).model_fields if name in overrides}
    kept = {name: value for name, value in kept.items() if value != getattr(base, name)}
    canonical = ",".join(f"{name}={_spell(value)}" for name, value in kept.items()) or BASELINE
    if canonical != arm:
        equals = [f"{name}={_spell(overrides[name])}" for name in overrides if name not in kept]
        why = f" ({', '.join(equals)} is the baseline)" if equals else ""
        raise SpecError(f"arm {arm!r} is not canonical{why}; write {canonical!r}")
    return kept


def find_duplicate(items: Sequence[Any]) -> Any | None:
    """The first item that occurs twice, or None."""
    seen: set[Any] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None
