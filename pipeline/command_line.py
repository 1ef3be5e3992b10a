"""Functions as commands: their help as a tour, and mistakes in one line."""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from pipeline.schema.mistakes import find_meant

PROGRAM = "python -m pipeline"
Command = Callable[..., None]
_KINDS = {"int": "a whole number", "float": "a number"}


def _explain(message: str, known: Sequence[str]) -> str:
    """What argparse says, in our words.

    Args:
        known: the options there are.
    """
    if match := re.match(r"argument (\S+): invalid (\w+) value: (.*)", message):
        name, kind, value = match.groups()
        return f"{name} = {value}: allowed: {_KINDS.get(kind, kind)}"
    if match := re.match(r"argument (\S+): expected one argument", message):
        return f"{match[1]} needs a value"
    if match := re.match(r"the following arguments are required: (.*)", message):
        return f"missing: {match[1]}"
    if match := re.match(r"unrecognized arguments: (\S+)", message):
        name = match[1].partition("=")[0]
        return f"unknown {'option' if name.startswith('-') else 'argument'} {name!r}{find_meant(name, known)}"
    return message


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        options = [name for action in self._actions for name in action.option_strings]
        print(f"error: {_explain(message, options)} (`{self.prog} --help` says more)", file=sys.stderr)
        sys.exit(2)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but what is unknown is refused by this very command's parser, which knows its options."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found


def name_command(run: Command) -> str:
    """Its name on the command line; a name that Python has another use for ends in an underscore."""
    return run.__name__.rstrip("_")


def add_arguments(parser: argparse.ArgumentParser, run: Command) -> None:
    """The parameters of a function: keyword-only ones are options, the others are positional."""
    hints = get_type_hints(run, include_extras=True)
    for key, parameter in signature(run).parameters.items():
        kind, text = get_args(hints[key])
        optional = parameter.default is not Parameter.empty
        settings: dict[str, Any] = {"help": text, "default": parameter.default if optional else None}
        if kind is bool:
            settings["action"] = "store_true"
        else:
            settings["type"] = (*get_args(kind), kind)[0]  # of `int | None` or `list[str]`, what is in it
        if parameter.kind is Parameter.KEYWORD_ONLY:
            parser.add_argument(f"--{key.rstrip('_').replace('_', '-')}", dest=key, **settings)
        else:
            many = "*" if get_origin(kind) is list else "?" if optional else None
            parser.add_argument(key, nargs=many, **settings)


def make_parser(run: Command) -> argparse.ArgumentParser:
    """The parser of one command."""
    parser = _Parser(prog=f"{PROGRAM} {name_command(run)}", description=run.__doc__)
    add_arguments(parser, run)
    return parser


def draw_tour(groups: Mapping[str, Sequence[Command]], examples: Mapping[str, str]) -> str:
    """All commands, one line each, by group; then examples."""
    lines = [f"{PROGRAM} COMMAND ...    (COMMAND --help says more)"]
    for title, commands in groups.items():
        lines += ["", title, *(f"  {name_command(run):10} {run.__doc__}" for run in commands)]
    shown = [f"  {PROGRAM} {words:15} # {text}" for words, text in examples.items()]
    return "\n".join([*lines, "", "Examples", *shown])


def parse(
    words: Sequence[str], groups: Mapping[str, Sequence[Command]], examples: Mapping[str, str]
) -> tuple[Command, dict[str, Any]]:
    """The command that the words name, and its arguments. A mistake ends the process with one line."""
    commands = {name_command(run): run for found in groups.values() for run in found}
    if not words or words[0] in ("-h", "--help", "help"):
        print(draw_tour(groups, examples))
        sys.exit(0)
    name, *rest = words
    if name not in commands:
        meant = find_meant(name, commands)
        print(f"error: no command {name!r}{meant}; there are {', '.join(commands)}", file=sys.stderr)
        sys.exit(2)
    return commands[name], vars(make_parser(commands[name]).parse_args(rest))
