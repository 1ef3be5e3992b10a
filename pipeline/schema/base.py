"""What every schema shares: strict models, one-line errors, YAML and JSON, and the language of arms."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, ScalarEvent

BASELINE = "baseline"
_OVERRIDE = re.compile(r"^([a-z][a-z0-9_]*)=([a-z0-9._+-]+)\Z")

ArmString = Annotated[str, StringConstraints(min_length=1, max_length=200)]
"""An arm as written: `baseline`, or `field=value[,field=value]`; `resolve_arm` says whether it is canonical."""


OUTDATED = "; `dvc repro` makes the file anew if another version wrote it"
"""Advice about a file that a stage wrote."""
MAX_WIDTH = 65_536
"""Channels, groups or features: beyond it a network is a slip of the pen, and counting it would overflow."""
CONFLICT_MARKERS = ("<<<<<<< ", "||||||| ", "=======", ">>>>>>> ")
"""Beginnings of the lines that git leaves where two branches changed the same lines."""
_OPEN_MERGE = (
    "edit params.yaml, dvc.yaml and specs/ by hand, then `python -m pipeline recover` and `dvc repro` do the rest"
)


class SpecError(ValueError):
    """A mistake in params.yaml, in specs/ or on the command line; its text is the one line that the user sees.

    What cannot be printed, such as a line break or an escape sequence, is spelled out.
    """

    def __init__(self, text: str) -> None:
        super().__init__("".join(char if char.isprintable() else ascii(char)[1:-1] for char in text))


class Strict(BaseModel):
    """A model that refuses unknown keys, wrong types, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            fields = cls.model_fields  # looked up once: it is slow
            unknown = [str(key) for key in value if key not in fields]
            if unknown:
                allowed = ", ".join(fields)
                raise PydanticCustomError(
                    "unknown_key", "unknown key {key}; allowed: {allowed}", {"key": unknown[0], "allowed": allowed}
                )
        return value


ModelT = TypeVar("ModelT", bound=BaseModel)


def read_text(path: Path, file: str) -> str:
    """A text file as a whole.

    Args:
        file: what messages call it.

    Raises:
        FileNotFoundError: there is none.
        SpecError: it is no file, not UTF-8, or a merge of git's that is open.
    """
    if path.exists() and not path.is_file():
        raise SpecError(f"{file}: not a regular file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{file}: not UTF-8 text (byte {error.start})") from None
    if CONFLICT_MARKERS[0] in text and (found := re.search(f"^{CONFLICT_MARKERS[0]}", text, re.MULTILINE)):
        line = text.count("\n", 0, found.start()) + 1
        raise SpecError(f"{file}: line {line}: a merge that git left open; {_OPEN_MERGE}")
    return text


def read_yaml(path: Path) -> Any:
    """Parse a YAML file with the parser that DVC uses (YAML 1.2; a repeated key is an error).

    Raises:
        SpecError: the file is missing, is not UTF-8, is not YAML, or says something else than it seems to.
    """
    try:
        text = read_text(path, path.name)
        _check_events(text, path.name)
        return YAML(typ="safe").load(text)
    except FileNotFoundError:
        raise SpecError(f"{path.name}: the file is missing; expected at {path}") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        problem = str(error.problem or error.context).splitlines()[0]
        raise SpecError(f"{path.name}: {where}not valid YAML: {problem}") from None
    except (YAMLError, RecursionError) as error:
        raise SpecError(f"{path.name}: not valid YAML: {str(error).splitlines()[0]}") from None
    except (SpecError, OSError):
        raise
    except Exception as error:  # the parser makes what it likes of a date that is none, or of a tag on the wrong value
        raise SpecError(f"{path.name}: not valid YAML: {error!r}") from None


def _check_events(text: str, file: str) -> None:
    """Refuse what says something else than it seems to.

    An alias: `dvc exp run -S` gives it and its anchor one value, or writes it out, so that they part. An arm without
    quotes in a flow list: its comma makes two of it.
    """
    before: ScalarEvent | None = None
    for event in YAML(typ="safe").parse(text):
        line = event.start_mark.line + 1
        plain = isinstance(event, ScalarEvent) and not event.style
        if isinstance(event, AliasEvent) or (plain and event.value == "<<"):
            name = f"the alias *{event.anchor}" if isinstance(event, AliasEvent) else "the merge key <<"
            raise SpecError(
                f"{file}: line {line}: {name}: `dvc exp run -S` would change both places, or neither; "
                "write the values out"
            )
        if plain and before is not None and _is_cut(before, event):
            raise SpecError(
                f"{file}: line {line}: {before.value},{event.value}: the comma makes two of it: one arm needs quotes, "
                f'"{before.value},{event.value}"; two need a blank after the comma'
            )
        before = event if plain else None


def _is_cut(one: ScalarEvent, two: ScalarEvent) -> bool:
    """Whether two scalars without quotes, fields of other names, have nothing but a comma between them."""
    end, start = one.end_mark, two.start_mark
    names = {scalar.value.partition("=")[0] for scalar in (one, two) if "=" in scalar.value}
    return (end.line, end.column + 1) == (start.line, start.column) and len(names) == 2


def _collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (twice := find_duplicate([name for name, _ in pairs])) is not None:
        raise ValueError(f"the key {twice!r} is given twice")
    return dict(pairs)


def read_json(path: Path, file: str) -> Any:
    """Parse a JSON file; a repeated key is an error.

    Args:
        file: what messages call it.

    Raises:
        FileNotFoundError: there is none.
        SpecError: it is not JSON.
    """
    text = read_text(path, file)
    try:
        return json.loads(text, object_pairs_hook=_collect)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{file}: not JSON: {error}") from None


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


def validate(model: type[ModelT], data: Any, file: str, prefix: str = "", advice: str = "") -> ModelT:
    """Validate parsed YAML or JSON; a failure becomes one line naming file, key, value and what is allowed.

    Args:
        prefix: the dotted key at which `data` stands in the file.
        advice: what to do about it, at the end of the line.

    Raises:
        SpecError: the first mistake, and how many more there are.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise SpecError(_describe(details[0], file, prefix) + more + advice) from None


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for key, entry in value.items():
        found |= flatten(entry, f"{prefix}{key}.") if isinstance(entry, Mapping) else {f"{prefix}{key}": entry}
    return found


def merge(*layers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge mappings, later over earlier, one level deep."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer or {})
    return merged


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def _adapt(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    """What reads a field's value; making one takes longer than all else about an arm."""
    field = model.model_fields[name]
    return TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]


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
        if name not in model.model_fields:
            raise SpecError(f"arm {arm!r}: unknown field {name!r}; allowed: {', '.join(model.model_fields)}")
        if name in overrides:
            raise SpecError(f"arm {arm!r}: {name!r} is given twice")
        try:
            overrides[name] = _adapt(model, name).validate_strings(text)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"]
            raise SpecError(f"arm {arm!r}: {name} = {text!r}: {message}") from None
    return overrides


def _keep_effective(overrides: Mapping[str, Any], base: BaseModel) -> dict[str, Any]:
    """The overrides that differ from `base`, in the order of its fields."""
    kept = {name: overrides[name] for name in type(base).model_fields if name in overrides}
    return {name: value for name, value in kept.items() if value != getattr(base, name)}


def _write_arm(overrides: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={_spell(value)}" for name, value in overrides.items()) or BASELINE


def canonicalise_arm(arm: str, base: BaseModel) -> str:
    """The canonical name of what an arm asks for: fields that are `base`'s anyway are left out.

    Raises:
        SpecError: unknown field, a value that the field does not allow, or a field given twice.
    """
    return _write_arm(_keep_effective(parse_arm(arm, type(base)), base))


def resolve_arm(arm: str, base: BaseModel) -> dict[str, Any]:
    """Overrides of a canonical arm relative to `base`.

    Canonical: fields in the order of the schema, each value in its shortest spelling, none equal to the
    baseline's. So one variant has one name, and is trained once.

    Raises:
        SpecError: the arm is not canonical; the message says how to write it.
    """
    overrides = parse_arm(arm, type(base))
    kept = _keep_effective(overrides, base)
    canonical = _write_arm(kept)
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
