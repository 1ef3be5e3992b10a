"""Damaged files: read, or refused in one line that names the place."""

import json
import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import node_record
from ruamel.yaml import YAML
from workspace import copy_project, copy_settings, find_settings

from pipeline.schema.base import SpecError
from pipeline.schema.curve import read_curve, read_history
from pipeline.schema.document import read_document
from pipeline.schema.ledger import make_entry, read_ledger
from pipeline.schema.panel import load_panel
from pipeline.schema.project import load_project
from pipeline.schema.record import Failure, read_record, record_path
from pipeline.schema.resolved import read_run
from pipeline.schema.study import find_study
from pipeline.studies.theory.study import TheoryRun

PIECES = ["\t", ":", "- ", "[", "}", '"', "#", "\x00", "\x1b[31m", "é", "null", ".nan", "-1", "groups=0", "*a", "&a "]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_settings(tmp_path)


def damage(text: str, random: Random) -> str:
    """Text with a line dropped, repeated, moved or cut, or with a piece of other grammar put in."""
    lines = text.splitlines(keepends=True)
    at, what = random.randrange(len(lines)), random.choice(["drop", "repeat", "move", "cut", "insert", "insert"])
    line = lines.pop(at)
    column = random.randrange(len(line))
    if what == "repeat":
        lines[at:at] = [line, line]
    elif what == "move":
        lines.insert(random.randrange(len(lines)), line)
    elif what != "drop":
        lines.insert(at, line[:column] + (random.choice(PIECES) + line[column:] if what == "insert" else "\n"))
    return "".join(lines)


@pytest.mark.slow
def test_damaged_settings_are_read_or_refused_in_one_line(root: Path):
    path, whole = root / "params.yaml", (find_settings() / "params.yaml").read_text()
    cases = {study: list(spec.cases) for study, spec in load_project(root).specs.items()}

    @settings(derandomize=True, max_examples=150, deadline=None, database=None)
    @given(st.randoms(use_true_random=False))
    def check(random: Random) -> None:
        path.write_text(damage(whole, random))
        try:
            load_panel(root, cases)
        except SpecError as error:
            line = str(error)
            assert line.isprintable()
            assert line.startswith("params.yaml: ")

    check()


def refuse(root: Path, *says: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_project(root)
    line = str(caught.value)
    assert line.isprintable()
    for part in says:
        assert part in line, line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: &a [x]\nb: *a\n", "line 2: the alias *a: `dvc exp run -S` would"),
        ("a: &a {b: x}\nc: {<<: *a}\n", "line 2: the merge key <<: `dvc exp run -S` would"),
        ("a: 2001-99-99\n", "not valid YAML"),
        ("a: !!int x\n", "not valid YAML"),
        ("? [a]\n: b\n", "unknown key"),
        ('"a\\nb\\e[31m": 1\n', "unknown key a\\nb\\x1b[31m"),
    ],
    ids=["alias", "merge key", "date", "int", "list as key", "escapes"],
)
def test_a_yaml_that_is_no_panel_is_refused(root: Path, content: str, says: str):
    (root / "params.yaml").write_text(content)
    refuse(root, "params.yaml", says)


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("latin-1", "not UTF-8 text (byte "),
        ("utf-16", "not UTF-8 text (byte 0)"),
        ("utf-32", "not UTF-8 text (byte 0)"),
        ("utf-16-le", "not valid YAML"),
    ],
)
def test_another_encoding_is_refused(root: Path, encoding: str, says: str):
    text = (root / "params.yaml").read_text() + ("# é\n" if encoding == "latin-1" else "")
    (root / "params.yaml").write_bytes(text.encode(encoding))
    refuse(root, "params.yaml", says)


def test_a_nul_byte_is_refused(root: Path):
    (root / "params.yaml").write_bytes((root / "params.yaml").read_bytes().replace(b"digits", b"dig\x00its", 1))
    refuse(root, "params.yaml: not valid YAML")


@pytest.mark.parametrize(("start", "end"), [(b"\xef\xbb\xbf", b"\n"), (b"", b"\r\n")], ids=["BOM", "CRLF"])
def test_what_windows_writes_is_read(root: Path, start: bytes, end: bytes):
    expected = load_project(root)
    for path in [root / "params.yaml", *(root / "specs").rglob("*.yaml")]:
        path.write_bytes(start + path.read_bytes().replace(b"\n", end))
    assert load_project(root).runs() == expected.runs()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seeds: [0, 1, 2, 3, 4]", "seeds: [-1]", "node.digits.seeds.0 = -1"),
        ("seeds: [0, 1, 2, 3, 4]", f"seeds: [{2**31}]", f"node.digits.seeds.0 = {2**31}"),
        ("seeds: [0, 1, 2, 3, 4]", "seeds: [.nan]", "node.digits.seeds.0 = nan"),
        ("seeds: [0, 1, 2, 3, 4]", "seeds: [0, 0]", "node.digits.seeds: 0 is listed twice"),
        ("checkpoint_minutes: 5", "checkpoint_minutes: 1e400", "resources.checkpoint_minutes = inf"),
        ("checkpoint_minutes: 5", "checkpoint_minutes: .nan", "resources.checkpoint_minutes = nan"),
        ("checkpoint_minutes: 5", "checkpoint_minutes: -.inf", "resources.checkpoint_minutes = -inf"),
        ("threads: 1 ", "threads: 1\n  threads: 2 ", "threads"),
        ("norm=batch", "norm=batch; touch x", "node.digits.arms.1: arm 'norm=batch; touch x'"),
        ("norm=batch", "$(touch x)", "node.digits.arms.1: arm '$(touch x)'"),
        ("norm=batch", "../../x", "node.digits.arms.1: arm '../../x'"),
        (
            "norm=batch",
            '"norm=batch\\n"',
            "node.digits.arms.1: arm 'norm=batch\\n': 'norm=batch\\n' is not field=",
        ),
        ("norm=batch", "channels=1000000", "at most 65536"),
        ("position=mlp\n", "blocks=1000000000\n", "ddpm.digits.more.arms.0"),
        ("position=mlp\n", "weights=..\n", "ddpm.digits.more.arms.0"),
    ],
)
def test_a_hostile_value_is_refused_where_it_stands(root: Path, old: str, new: str, says: str):
    text = (root / "params.yaml").read_text()
    study = says.split(".")[0]  # in whose grids it stands, wherever they are in the file
    place = text.index(old, text.index(f"\n{study}:") if study in ("node", "ddpm") else 0)
    (root / "params.yaml").write_text(text[:place] + text[place:].replace(old, new, 1))
    refuse(root, "params.yaml", says)


@pytest.mark.parametrize("name", ["x; touch y", "$(touch y)", "../x", "_x", "model_config", "x\n", "\x1b[31m"])
def test_a_dataset_is_no_command_and_no_path(root: Path, name: str):
    """dvc.yaml gives its name to a shell."""
    content = YAML(typ="safe").load(root / "specs/data.yaml")
    content["datasets"][name] = content["datasets"]["digits"]
    (root / "specs/data.yaml").write_text(json.dumps(content))
    refuse(root, ": datasets", ascii(name)[1:-1])


def write(root: Path, text: str, study: str = "node") -> Path:
    path = record_path(root, study, "digits", "baseline", 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"nll": 0.5,', "", "nll: this key is required and missing; `dvc repro` makes"),
        ('"nll": 0.5,', '"nll": 0.5, "fid": 1.0,', "unknown key fid; allowed: status, accuracy"),
        ('"nll": 0.5,', '"nll": 0.5, "nll": 0.5,', "the key 'nll' is given twice"),
        ('"nll": 0.5,', '"nll": NaN,', "nll = nan"),
        ('"nll": 0.5,', '"nll": 1e400,', "nll = inf"),
        ('"trained": null', '"trained": ', "not JSON"),
    ],
)
def test_a_record_of_another_version_or_none_at_all_is_named(tmp_path: Path, old: str, new: str, says: str):
    text = json.dumps(node_record(90.0).model_dump())
    assert old in text
    write(tmp_path, text.replace(old, new))
    with pytest.raises(SpecError) as caught:
        read_record(tmp_path, "node", "digits", "baseline", 0)
    line = str(caught.value)
    assert line.startswith("records/node/digits/baseline/0.json: ")
    assert says in line


@pytest.mark.slow
def test_the_advice_about_an_old_record_reaches_the_terminal(tmp_path: Path):
    workspace = copy_project(tmp_path / "project")
    path = workspace.root / "records/node/digits/baseline/0.json"
    content = json.loads(path.read_text())
    del content["nll"]
    path.write_text(json.dumps(content))
    result = workspace.run("python", "-m", "pipeline", "tables", ok=False)
    assert result.returncode == 1
    assert re.fullmatch(
        r"error: records/node/digits/baseline/0\.json: nll: .* missing; `dvc repro` .*\n", result.stderr
    )


def test_documents_of_another_version_are_named(tmp_path: Path):
    path = tmp_path / "run.json"
    path.write_text('{"epoch": 1, "step": 2}')
    with pytest.raises(SpecError, match=r"run\.json: reason: .* missing; `dvc repro`"):
        read_document(path, Failure)
    with pytest.raises(SpecError, match=r"run\.json: not a resolved run; `dvc repro`"):
        read_run(path, TheoryRun)
    path.write_text('{"run": {"case": "features"}, "compute": {}}')
    with pytest.raises(SpecError, match=r"run\.json: run\.arm: .* missing .*; `dvc repro`"):
        read_run(path, TheoryRun)
    path.write_text('{"run": {}, "compute": {"thread": 1}}')
    with pytest.raises(SpecError, match=r"run\.json: compute: unknown key thread.*; `dvc repro`"):
        read_run(path, TheoryRun)


@pytest.mark.parametrize("row", ["1\tnan\tbaseline\t0", "1\t1e400\tbaseline\t0", "1\t2.0\tbaseline", "1\t\tx\t0\t9\t9"])
def test_a_wrong_row_of_a_curve_is_named(tmp_path: Path, row: str):
    path = tmp_path / "curve.tsv"
    path.write_text(f"epoch\taccuracy\tarm\tseed\n1\t90.0\tbaseline\t0\n{row}\n")
    with pytest.raises(SpecError, match=r"^\S+curve\.tsv: row 2: (?!.*SpecError)"):
        read_curve(path, find_study("node").curves[0])
    with pytest.raises(SpecError, match=r"curve\.tsv: row [12]: "):
        read_history(path)
    with pytest.raises(SpecError, match=r"curve\.tsv: row [12]: "):
        read_ledger(path)


@pytest.mark.parametrize("content", ["{", "[]", '{"output": "abc"}', '{"output": "abc", "compute": 3}'])
def test_damaged_provenance_is_as_good_as_none(tmp_path: Path, content: str):
    path = tmp_path / "provenance.json"
    path.write_text(content)
    entry = make_entry("baseline", 0, "train", "abc", path, [])
    assert (entry.output, entry.seconds, entry.torch) == ("abc", None, None)


@pytest.mark.parametrize("command", ["check", "show node digits baseline", "tables", "plan"])
def test_every_command_refuses_in_one_line(tmp_path: Path, command: str):
    workspace = copy_project(tmp_path / "project")
    (workspace.root / "params.yaml").write_text("a: &a [x]\nb: *a\n")
    result = workspace.run("python", "-m", "pipeline", *command.split(), ok=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: params.yaml: ")
    assert len(result.stderr.splitlines()) == 1
