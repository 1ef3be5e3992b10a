"""Hostile and merely wrong files: read, or refused in one line naming the place. `make fuzz` is the long version."""

import json
import os
import re
import sys
import time
from pathlib import Path
from random import Random

import pytest
from fuzz import Violation, audit, damage, guard, judge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from panels import node_record
from ruamel.yaml import YAML
from targets import Target, list_targets
from workspace import copy_project, copy_settings

from pipeline.data.arrays import read_arrays
from pipeline.run.outputs import read_run
from pipeline.schema.base import SpecError
from pipeline.schema.curve import CURVES, read_curve, read_history
from pipeline.schema.document import read_document
from pipeline.schema.ledger import enter, read_ledger
from pipeline.schema.project import load_project
from pipeline.schema.record import Failure, read_record, record_path

NAMES = ["settings", "records", "shown", "documents", "tables", "arrays", "weights", "states"]
SLOW = ("settings", "shown")


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    sys.addaudithook(audit)
    return {target.name: target for target in list_targets(tmp_path_factory.mktemp("fuzz"))}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return copy_settings(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused_in_one_line(name: str, targets: dict[str, Target]):
    files = targets[name].files

    @settings(
        derandomize=True, max_examples=25 if name in SLOW else 75, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.sampled_from(files), st.randoms(use_true_random=False))
    def check(file, random: Random) -> None:
        whole = file.path.read_bytes()
        try:
            content = damage(file, random)
            judge(file.read, file.names)
        except Violation as violation:  # as an Exception, which hypothesis reduces to the least such input
            raise AssertionError(f"{file.names}: {content[:2000]!r}") from violation
        finally:
            file.path.write_bytes(whole)

    check()


def test_every_target_is_tried(targets: dict[str, Target]):
    assert list(targets) == NAMES
    for target in targets.values():
        assert target.files
        for file in target.files:
            assert judge(file.read, file.names) == "read"


def test_the_judge_finds_what_must_not_be(tmp_path: Path):
    sys.addaudithook(audit)

    def fail(error: Exception) -> None:
        raise error

    wrong = [
        lambda: fail(KeyError("file")),
        lambda: fail(ValueError("file: two\nlines")),
        lambda: fail(ValueError("somewhere")),
        lambda: os.system("true"),  # noqa: S605
        lambda: time.sleep(5),
    ]
    for read in wrong:
        with pytest.raises(BaseException, match=r".") as caught:
            judge(read, "file")
        assert type(caught.value).__name__ == "Violation"


def refuse(root: Path, *says: str) -> None:
    with guard(), pytest.raises(SpecError) as caught:
        load_project(root)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 3000
    for part in says:
        assert part in line, line


DOUBLING = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (DOUBLING, "line 2: the alias *a0: `dvc exp run -S` would"),
        ("a: &a {b: x}\nc: {<<: *a}\n", "line 2: the merge key <<: `dvc exp run -S` would"),
        ("a: &a [*a]\n", "line 1: the alias *a: `dvc exp run -S` would"),
        ("a: " + "[" * 900 + "]" * 900, "line 1: nested more than 50 deep"),
        ("a: " + "[" * 60 + "]" * 60, "line 1: nested more than 50 deep"),
        ("- " * 100_000, "line 1: nested more than 50 deep"),
        ("a: x\n" * 500_000, "2500000 bytes; allowed are 2097152"),
        ("a: " + "[" + "x," * 250_000 + "]", "line 1: more than 200000 values"),
        ("a: 0x" + "f" * 5000, "a: an integer of more than 64 bits"),
        ("a: 2001-99-99\n", "not valid YAML"),
        ("a: !!int x\n", "not valid YAML"),
        ("a: !!timestamp x\n", "not valid YAML"),
        ("? [a]\n: b\n", "unknown key"),
        ('"a\\nb\\e[31m": 1\n', "unknown key a\\nb\\x1b[31m"),
        ("? " + "k" * 50_000 + "\n: 1\n", "unknown key kkk"),
    ],
    ids=[
        "doubling", "merge key", "endless", "deep", "nested", "sequences", "big", "wide", "hexadecimal", "date", "int",
        "timestamp", "list as key", "escapes", "long key",
    ],
)  # fmt: skip
def test_a_hostile_yaml_is_refused(root: Path, content: str, says: str):
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(root: Path):
    (root / "params.yaml").unlink()
    os.mkfifo(root / "params.yaml")
    refuse(root, "params.yaml: not a regular file")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seeds: [0, 1]", "seeds: [-1]", "digits.node.seeds.0 = -1"),
        ("seeds: [0, 1]", f"seeds: [{2**70}]", "digits.node.seeds.0: an integer of more than 64 bits"),
        ("seeds: [0, 1]", f"seeds: [{2**31}]", f"digits.node.seeds.0 = {2**31}"),
        ("seeds: [0, 1]", "seeds: [.nan]", "digits.node.seeds.0 = nan"),
        ("seeds: [0, 1]", "seeds: [0, 0]", "digits.node.seeds: 0 is listed twice"),
        ("checkpoint_minutes: 5", "checkpoint_minutes: 1e400", "resources.checkpoint_minutes = inf"),
        ("checkpoint_minutes: 5", "checkpoint_minutes: .nan", "resources.checkpoint_minutes = nan"),
        ("checkpoint_minutes: 5", "checkpoint_minutes: -.inf", "resources.checkpoint_minutes = -inf"),
        ("threads: 1 ", f"threads: {10**30} ", "compute.threads: an integer of more than 64 bits"),
        ("threads: 1 ", "threads: 1\n  threads: 2 ", "threads"),
        ("norm=batch", "norm=batch; touch x", "digits.node.arms.1: arm 'norm=batch; touch x'"),
        ("norm=batch", "$(touch x)", "digits.node.arms.1: arm '$(touch x)'"),
        ("norm=batch", "../../x", "digits.node.arms.1: arm '../../x'"),
        (
            "norm=batch",
            '"norm=batch\\n"',
            "node.arms.1: arm 'norm=batch\\n': 'norm=batch\\n' is not field=",
        ),
        ("norm=batch", "x" * 1000, "digits.node.arms.1"),
        ("norm=batch", "channels=" + "9" * 100, "digits.node.arms.1: arm 'channels=999"),
        ("norm=batch", "channels=1000000", "less than or equal to 65536"),
        ("position=mlp\n", "blocks=1000000000\n", "digits.ddpm.arms.1"),
        ("position=mlp\n", "weights=..\n", "digits.ddpm.arms.1"),
    ],
)
def test_a_hostile_value_is_refused_where_it_stands(root: Path, old: str, new: str, says: str):
    text = (root / "params.yaml").read_text()
    assert old in text
    (root / "params.yaml").write_text(text.replace(old, new, 1))
    refuse(root, "params.yaml", says)


@pytest.mark.parametrize(
    "name", ["x; touch y", "$(touch y)", "../x", "_x", "model_config", "compute", "x\n", "\x1b[31m"]
)
def test_a_dataset_is_no_command_and_no_path(root: Path, name: str):
    """dvc.yaml gives its name to a shell."""
    content = YAML(typ="safe").load(root / "specs/data.yaml")
    content["datasets"][name] = content["datasets"]["digits"]
    (root / "specs/data.yaml").write_text(json.dumps(content))
    refuse(root, "data.yaml: datasets", ascii(name)[1:-1])


def test_ten_thousand_arms_are_checked_in_time(root: Path):
    arms = "".join(f"      - weight_std={number}.5\n" for number in range(10_000))
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("      - norm=batch\n", "      - norm=batch\n" + arms, 1))
    with guard(20):  # a machine at leisure takes 2 s
        assert len(load_project(root).runs()) > 20_000


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
        ('"images": 360,', f'"images": {2**70},', "images: an integer of more than 64 bits"),
        ('"images": 360,', f'"images": {"9" * 5000},', "not JSON"),
        ('"images": 360,', '"\\ud800": 0,', "half a character"),
        ('"trained": null', '"trained": ' + '{"a":' * 100_000, "not JSON"),
        ('"trained": null', '"trained": ' + "[" * 60 + "]" * 60, "trained.0.0"),
    ],
)
def test_a_record_of_another_version_or_none_at_all_is_named(tmp_path: Path, old: str, new: str, says: str):
    text = json.dumps(node_record(90.0).model_dump())
    assert old in text
    write(tmp_path, text.replace(old, new))
    with guard(), pytest.raises(SpecError) as caught:
        read_record(tmp_path, "node", "digits", "baseline", 0)
    line = str(caught.value)
    assert line.startswith("records/node/digits/baseline/0.json: ")
    assert says in line


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
    with pytest.raises(SpecError, match=r"run\.json: not a run and its num_params; `dvc repro`"):
        read_run(path, Failure)
    path.write_text('{"run": {"epoch": 1}, "num_params": 3}')
    with pytest.raises(SpecError, match=r"run\.json: run\.step: .* missing .*; `dvc repro`"):
        read_run(path, Failure)


@pytest.mark.parametrize("row", ["1\tnan\tbaseline\t0", "1\t1e400\tbaseline\t0", "1\t2.0\tbaseline", "1\t\tx\t0\t9\t9"])
def test_a_wrong_row_of_a_curve_is_named(tmp_path: Path, row: str):
    path = tmp_path / "curve.tsv"
    path.write_text(f"epoch\taccuracy\tarm\tseed\n1\t90.0\tbaseline\t0\n{row}\n")
    with pytest.raises(SpecError, match=r"^\S+curve\.tsv: row 2: (?!.*SpecError)"):
        read_curve(path, CURVES["node"][0])
    with pytest.raises(SpecError, match=r"curve\.tsv: row [12]: "):
        read_history(path)
    with pytest.raises(SpecError, match=r"curve\.tsv: row [12]: "):
        read_ledger(path)


def test_more_dimensions_than_numpy_has_are_refused(tmp_path: Path):
    path = tmp_path / "set.safetensors"
    header = json.dumps({"images": {"dtype": "U8", "shape": [1] * 300, "data_offsets": [0, 1]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    with pytest.raises(SpecError, match=r"set\.safetensors: not a whole safetensors file"):
        read_arrays(path)


@pytest.mark.parametrize("content", ["{", "[]", '{"output": "abc"}', '{"output": "abc", "compute": 3}', "[" * 100_000])
def test_damaged_provenance_is_as_good_as_none(tmp_path: Path, content: str):
    path = tmp_path / "provenance.json"
    path.write_text(content)
    entry = enter("baseline", 0, "train", "abc", path, [])
    assert (entry.output, entry.seconds, entry.torch) == ("abc", None, None)


@pytest.mark.parametrize("command", ["check", "show node digits baseline", "tables", "plan"])
def test_every_command_refuses_in_one_line(tmp_path: Path, command: str):
    workspace = copy_project(tmp_path / "project")
    (workspace.root / "params.yaml").write_text(DOUBLING)
    result = workspace.run("python", "-m", "pipeline", *command.split(), ok=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: params.yaml: ")
    assert len(result.stderr.splitlines()) == 1
