"""How a mistake is told: in our words, with the name that was probably meant, and with its line in the file."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

_WORDS = {
    "int": "a whole number",
    "int_from_float": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "dict": "a mapping of keys",
    "model": "a mapping of keys",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} entries",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "what matches {pattern}",
}
"""What is allowed, by Pydantic's type of error, whole or up to its last underscore."""
_NAMED = re.compile(r"(?P<name>[\w.:+-]+)'?(?:: unknown \w+)?[;:] (?:allowed:|there are) (?P<known>.+)$")
_PLACE = re.compile(r"(?P<file>params\.yaml|specs/[\w./-]+\.yaml): (?!line \d)(?P<rest>.*)")


def say(error: ErrorDetails) -> str:
    """What is allowed, in our words; Pydantic's own where we have none."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("union_tag_invalid", "union_tag_not_found"):  # the key that says which kind it is
        key: str = context["discriminator"].strip("'")
        known = f" = {context['tag']!r}: allowed: {context['expected_tags']}" if "tag" in context else None
        return key + (known or ": this key is required and missing")
    words = _WORDS.get(kind) or _WORDS.get(kind.rpartition("_")[0])
    if words is None:
        return error["msg"].removeprefix("Value error, ")
    return f"allowed: {words.format(**context)}".replace(" 1 entries", " 1 entry").replace(
        " 1 characters", " 1 character"
    )


def find_place(data: Any, error: ErrorDetails) -> str:
    """The dotted key of an error, without the parts of Pydantic's own that are no keys of the data."""
    kept, node = list[str](), data
    for part in error["loc"]:
        inside = isinstance(node, Mapping) and part in node
        if inside or (isinstance(node, Sequence) and isinstance(part, int)):
            node = node[part]
        elif error["type"] != "missing" or part != error["loc"][-1]:
            continue
        kept.append(str(part))
    return ".".join(kept)


def find_meant(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'groups'?)`, or nothing where no known name is like it."""
    by_lower = {other.lower(): other for other in known}
    near = get_close_matches(name.lower(), by_lower, 1, 0.7)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near and by_lower[near[0]] != name else ""


def suggest(text: str) -> str:
    """Add what was probably meant to a message that ends in what is allowed."""
    match = _NAMED.search(text)
    if match is None or "did you mean" in text:
        return text
    known = [name.strip(" '") for name in re.split(r", | or ", match["known"])]
    end = match.end("name") + text.startswith("'", match.end("name"))
    return text[:end] + find_meant(match["name"], known) + text[end:]


def _list_entries(node: Node) -> list[tuple[str, int, Node]]:
    """Key or index, line from 0, and content of each entry of a node."""
    if isinstance(node, MappingNode):
        return [(str(key.value), key.start_mark.line, value) for key, value in node.value]
    if isinstance(node, SequenceNode):
        return [(str(index), value.start_mark.line, value) for index, value in enumerate(node.value)]
    return []


def _find_line(node: Node, key: str, names: Collection[str]) -> int:
    """The line, from 1, of a dotted key; of the last entry below it that is named, if one is.

    What is no key in the file, such as one that is missing, is left out.
    """
    line: int = node.start_mark.line
    while key:
        found = [entry for entry in _list_entries(node) if key == entry[0] or key.startswith(f"{entry[0]}.")]
        if found:
            name, line, node = max(found, key=lambda entry: len(entry[0]))
            key = key[len(name) + 1 :]
        else:
            key = key.partition(".")[2]
    for name, place, value in _list_entries(node):
        if name in names or (isinstance(value.value, str) and value.value in names):
            line = place
    return line + 1


def add_line(root: Path, text: str) -> str:
    """Put the line into a message that begins with a YAML file and a dotted key: `params.yaml: line 12: ...`."""
    match = _PLACE.match(text)
    if match is None:
        return text
    file, rest = match.groups()
    try:
        node = YAML(typ="safe").compose((root / file).read_text(encoding="utf-8"))
    except (OSError, UnicodeError, YAMLError):
        return text
    if node is None:
        return text
    key = re.match(r"[\w.=,+-]*", rest)
    names = {name for pair in re.findall(r"'([^']+)'|unknown key (\S+?)[ ;]", rest) for name in pair if name}
    return f"{file}: line {_find_line(node, key[0] if key else '', names)}: {rest}"
