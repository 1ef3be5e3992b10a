"""The command line: a tour, and one line for each mistake."""

import importlib.util
import re

import pytest
from problems import ROOT

from pipeline.__main__ import COMMANDS, EXAMPLES, GROUPS
from pipeline.command_line import name_command, parse


def test_help_is_a_tour(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse(["--help"], GROUPS, EXAMPLES)
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80
    shown = [match[1] for line in lines if (match := re.match(r"  ([a-z]+) {2,}\S", line))]
    assert shown == [name_command(command) for command in COMMANDS]
    for words in EXAMPLES:
        parse(words.split(), GROUPS, EXAMPLES)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("chek", "no command 'chek' (did you mean 'check'?); there are check"),
        ("run --slotz 3", "unknown option '--slotz' (did you mean '--slots'?)"),
        ("run --slots two", "--slots = 'two': allowed: a whole number"),
        ("run --slots", "--slots needs a value"),
        ("show node digits", "missing: arm"),
        ("show node digits baseline 3", "unknown argument '3'"),
    ],
)
def test_a_mistake_is_one_line(words: str, says: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse(words.split(), GROUPS, EXAMPLES)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(f"error: {says}")


def test_a_parameter_may_have_the_name_of_a_command():
    command, arguments = parse(["ema", "ddpm/digits/ema=power/0", "--length", "0.1"], GROUPS, EXAMPLES)
    assert name_command(command) == "ema"
    assert arguments["run"] == "ddpm/digits/ema=power/0"


def test_the_image_passes_every_command_on():
    spec = importlib.util.spec_from_file_location("entrypoint", ROOT / "docker/entrypoint.py")
    assert spec is not None
    assert spec.loader is not None
    entrypoint = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(entrypoint)
    assert set(entrypoint.PIPELINE) == {name_command(command) for command in COMMANDS}
