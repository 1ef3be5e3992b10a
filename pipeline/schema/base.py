"""Basics of all schemas: strict models, one-line errors, checked YAML and JSON."""

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, ScalarEvent

from pipeline.schema.mistakes import find_place, say, suggest

OUTDATED = "; `dvc repro` makes the file anew if another version wrote it"
"""Advice at the end of an error about a file that a stage wrote."""
MAX_WIDTH = 65_536
"""Limit of channels, groups and features. Larger numbers are typos, and counting FLOPs would overflow."""
CONFLICT_MARKERS = ("<<<<<<< ", "||||||| ", "=======", ">>>>>>> ")
"""Beginnings of the lines with which git marks a merge conflict."""
_OPEN_MERGE = (
    "edit params.yaml, dvc.yaml and specs/ by hand, then `python -m pipeline recover` and `dvc repro` do the rest"
)


class SpecError(ValueError):
    """A mistake in params.yaml, in specs/ or on the command line. Its text is one line, shown to the user.

    Characters that cannot be printed, such as line breaks and escape sequences, are escaped. Where it ends in what is
    allowed, it says what was probably meant.
    """

    def __init__(self, text: str) -> None:
        text = suggest(text)
        super().__init__("".join(char if char.isprintable() else ascii(char)[1:-1] for char in text))


class MachineError(SpecError):
    """A setting or folder that does not work on this machine."""


class Strict(BaseModel):
    """A model that refuses unknown keys, wrong types, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            fields = cls.model_fields  # a slow look-up, so once
            unknown = [str(key) for key in value if key not in fields]
            if unknown:
                allowed = ", ".join(fields)
                raise PydanticCustomError(
                    "unknown_key", "unknown key {key}; allowed: {allowed}", {"key": unknown[0], "allowed": allowed}
                )
        return value


ModelT = TypeVar("ModelT", bound=BaseModel)


def read_text(path: Path, file: str) -> str:
    """Read a text file.

    Args:
        file: its name in messages.

    Raises:
        FileNotFoundError: there is no such file.
        SpecError: it is not a regular file, is not UTF-8, or has an unresolved merge conflict.
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


def read_yaml(path: Path, file: str = "") -> Any:
    """Parse a YAML file with the parser that DVC uses (YAML 1.2; a repeated key is an error).

    Args:
        file: what messages call it; its name if empty.

    Raises:
        SpecError: the file is missing, not UTF-8 or not YAML, or has an alias or an arm that a comma cuts in two.
    """
    file = file or path.name
    try:
        return deepcopy(_parse_yaml(read_text(path, file), file))
    except FileNotFoundError:
        raise SpecError(f"{file}: the file is missing; expected at {path}") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        problem = str(error.problem or error.context).splitlines()[0]
        raise SpecError(f"{file}: {where}not valid YAML: {problem}") from None
    except (YAMLError, RecursionError) as error:
        raise SpecError(f"{file}: not valid YAML: {str(error).splitlines()[0]}") from None
    except (SpecError, OSError):
        raise
    except Exception as error:  # the parser makes what it likes of a date that is none, or of a tag on the wrong value
        raise SpecError(f"{file}: not valid YAML: {error!r}") from None


@cache
def _parse_yaml(text: str, file: str) -> Any:
    """A stage reads the same settings at its end again, and parsing is what takes long."""
    _check_events(text, file)
    return YAML(typ="safe").load(text)


def _check_events(text: str, file: str) -> None:
    """Refuse YAML that is easily misread: aliases, and unquoted arms with a comma in a flow list.

    `dvc exp run -S` may change an alias together with its anchor, or separate the two. The comma of an unquoted arm
    makes two items of it.
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
    """Whether two plain scalars look like one arm cut in two: different fields, and only a comma between them."""
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
        file: its name in messages.

    Raises:
        FileNotFoundError: there is no such file.
        SpecError: it is not JSON.
    """
    text = read_text(path, file)
    try:
        return json.loads(text, object_pairs_hook=_collect)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{file}: not JSON: {error}") from None


def _describe(details: Sequence[ErrorDetails], data: Any, file: str, prefix: str) -> str:
    """The first mistake; where it is one of a value that may be of several kinds, what each allows."""
    error, place = details[0], find_place(data, details[0])
    same = [other for other in details if find_place(data, other) == place] if place else [error]
    key = ".".join(filter(None, (prefix, place)))
    message = " or ".join(dict.fromkeys(map(say, same))).replace(" or allowed: ", " or ")
    more = f" (and {len(details) - len(same)} more)" if len(details) > len(same) else ""
    if error["type"] == "missing":
        return f"{file}: {key}: this key is required and missing{more}"
    of_mapping = error["type"] == "value_error" and isinstance(error["input"], Mapping)
    if of_mapping or error["type"] in ("unknown_key", "union_tag_invalid", "union_tag_not_found"):
        return f"{file}: {key + ': ' if key else ''}{message}{more}"
    value = repr(error["input"])
    shown = value if len(value) <= 80 else value[:77] + "..."
    return f"{file}: {key} = {shown}: {message}{more}" if key else f"{file}: {shown}: a mapping of keys is needed"


def validate(model: type[ModelT], data: Any, file: str, prefix: str = "", advice: str = "") -> ModelT:
    """Validate parsed YAML or JSON. An error is one line with file, key, value and what is allowed.

    Args:
        file: its name in messages.
        prefix: dotted key of `data` in the file.
        advice: what to do about an error, at the end of the line.

    Raises:
        SpecError: the first mistake, and the number of further ones.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise SpecError(_describe(error.errors(include_url=False), data, file, prefix) + advice) from None


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings; keys are joined by dots."""
    found: dict[str, Any] = {}
    for key, entry in value.items():
        found |= flatten(entry, f"{prefix}{key}.") if isinstance(entry, Mapping) else {f"{prefix}{key}": entry}
    return found


def merge(*layers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge mappings, one level deep; later ones win."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer or {})
    return merged


def find_duplicate(items: Sequence[Any]) -> Any | None:
    """The first item that occurs twice, or None."""
    seen: set[Any] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None
