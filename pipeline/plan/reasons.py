"""Why a stage must run: which file of its code changed, which setting, from what to what."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.schema.base import flatten

_MOST = 3
"""Differences that a line names."""


def _read_settings(text: str) -> dict[str, Any] | None:
    """Settings of a file of resolved/ by dotted key; None if it is none."""
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return flatten(content) if isinstance(content, dict) else None


def _read_closure(text: str) -> dict[str, str]:
    """Digest by file of a closure; the runner's number has none."""
    pairs = (line.partition("  ") for line in text.splitlines())
    return {path or digest: digest for digest, _, path in pairs}


def _compare(old: dict[str, Any], new: dict[str, Any], say: Callable[[str, Any, Any], str]) -> Iterator[str]:
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            yield say(key, old.get(key), new.get(key))


def _say_setting(key: str, old: Any, new: Any) -> str:
    """A key that a file leaves out has the schema's default."""
    before, after = ("the default" if value is None else str(value) for value in (old, new))
    return f"{key.removeprefix('run.')} was {before}, is {after}"


def explain_change(path: str, old: str | None, new: str | None) -> str:
    """What changed in a dependency, in a few words.

    Args:
        old: its content when the stage last ran; None if that is not known or not text.
        new: its content now; likewise.
    """
    if old is None or new is None:
        return f"{path} is new" if new is not None else f"{path} changed"
    if path.startswith("closures/"):
        found = list(_compare(_read_closure(old), _read_closure(new), lambda file, *_: file))
        what = "code: "
    else:
        before, after = _read_settings(old), _read_settings(new)
        if before is None or after is None:
            return f"{path} changed"
        found, what = list(_compare(before, after, _say_setting)), ""
    more = f", and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return f"{what}{', '.join(found[:_MOST])}{more}" if found else f"{path} changed"
