"""What every schema shares: strict models, one-line errors, safe YAML and JSON."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, ScalarEvent

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


class MachineError(SpecError):
    """A setting or a folder that this machine cannot do with."""


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


def read_yaml(path: Path, file: str = "") -> Any:
    """Parse a YAML file with the parser that DVC uses (YAML 1.2; a repeated key is an error).

    Args:
        file: what messages call it; its name if empty.

    Raises:
        SpecError: the file is missing, is not UTF-8, is not YAML, or says something else than it seems to.
    """
    file = file or path.name
    try:
        text = read_text(path, file)
        _check_events(text, file)
        return YAML(typ="safe").load(text)
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


def find_duplicate(items: Sequence[Any]) -> Any | None:
    """The first item that occurs twice, or None."""
    seen: set[Any] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None
