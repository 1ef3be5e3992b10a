"""Arrays on disk: the same bytes each time, any damage noticed, and what DVC does about it."""

import errno
import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from problems import ROOT
from safetensors.numpy import save_file

from pipeline.data.arrays import Split, read_arrays, read_split, write_arrays, write_split


def draw_split(images: int = 3) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (images, 2, 4, 4), dtype=np.uint8)
    return Split(pixels, np.arange(images) % 5, 5)


def refused(path: Path) -> str:
    lines = set()
    for read in (read_split, read_arrays):
        with pytest.raises(ValueError, match=f"{path.name}: ") as error:
            read(path)
        lines.add(str(error.value))
    assert len(lines) == 1
    assert lines.copy().pop().isprintable()
    return lines.pop()


def test_a_split_survives_the_disk_and_gives_the_same_bytes(tmp_path: Path):
    split = draw_split()
    for name in ("first", "again"):
        write_split(tmp_path / name, split)
    back = read_split(tmp_path / "first")
    assert np.array_equal(back.images, split.images)
    assert (back.labels.tolist(), back.classes) == ([0, 1, 2], 5)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "first"]


def test_any_arrays_survive_the_disk(tmp_path: Path):
    arrays = {
        "turned": np.arange(6.0).reshape(2, 3).T,
        "none": np.zeros((0, 3), np.float32),
        "number": np.array(3, np.int64),
        "truth": np.array([True, False]),
    }
    write_arrays(tmp_path / "deep" / "arrays", arrays)
    back = read_arrays(tmp_path / "deep" / "arrays")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(back[name], array)
        assert back[name].dtype == array.dtype


@pytest.mark.slow
def test_every_flipped_bit_is_noticed(tmp_path: Path):
    """In the arrays, of which safetensors has no checksum, and in the header. (Blanks pad the header: none of them.)"""
    path = tmp_path / "split"
    write_split(path, draw_split(2))
    content = path.read_bytes()
    header = 8 + len(content[8 : 8 + int.from_bytes(content[:8], "little")].rstrip())
    start = 8 + int.from_bytes(content[:8], "little")
    for at in [*range(header), *range(start, len(content))]:
        for bit in range(8):
            damaged = bytearray(content)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"split: not .*README\.md, Damaged files"):
                read_split(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"[2,2,4,4]", b"[4,4,2,2]"), (b'"I64"', b'"U64"'), (b'"labels"', b'"lapels"')],
)
def test_the_same_bytes_under_another_name_or_shape_are_noticed(old: bytes, new: bytes, tmp_path: Path):
    path = tmp_path / "split"
    write_split(path, draw_split(2))
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    assert "split: not the content that was written to it" in refused(path)


@pytest.mark.slow
def test_any_damage_is_one_line(tmp_path: Path):
    path = tmp_path / "split"
    write_split(path, draw_split())
    content = path.read_bytes()
    for seed in range(2000):
        chance = random.Random(seed)  # noqa: S311
        damaged = bytearray(content)
        at = chance.randrange(len(damaged) if seed % 2 else 300)
        damaged[at : at + chance.randint(0, 20)] = chance.randbytes(chance.randint(1, 20))
        path.write_bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])
        refused(path)


def header(content: object) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


def tensor(kind: str, size: int = 1, **changes: object) -> dict[str, object]:
    return {"a": {"dtype": kind, "shape": [1], "data_offsets": [0, size], **changes}}


HOSTILE = {
    "empty": b"",
    "a huge header": struct.pack("<Q", 2**63) + b"{}",
    "deep": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "deep objects": struct.pack("<Q", 60_000) + b'{"a":' * 12_000,
    "no object": header([1]),
    "a type that numpy lacks": header(tensor("BF16", 2)) + b"\0\0",
    "another one": header(tensor("F8_E4M3")) + b"\0",
    "no type": header(tensor("X1")) + b"\0",
    "a shape beyond memory": header(tensor("U8", shape=[2**40, 2**40])) + b"\0",
    "offsets beyond the end": header(tensor("U8", 2**40)) + b"\0",
    "offsets backwards": header(tensor("U8", data_offsets=[5, 1])) + b"\0",
    "a surrogate": header({"\ud800": {}}),
    "metadata of another kind": header({"__metadata__": {"sha256": 1}, **tensor("U8")}) + b"\0",
    "no digest": header(tensor("U8")) + b"\0",
    "no array": header({"__metadata__": {"sha256": "0" * 64}}),
    "a pickle": b"\x80\x04cos\nsystem\n(S'false'\ntR.",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_that_means_harm_is_one_line(content: bytes, tmp_path: Path):
    path = tmp_path / "split"
    path.write_bytes(content)
    assert "README.md, Damaged files, says what to do" in refused(path)


def test_no_file_and_a_folder_are_named(tmp_path: Path):
    assert refused(tmp_path / "none").endswith("none: the file is missing")
    (tmp_path / "folder").mkdir()
    assert "folder: not a whole safetensors file" in refused(tmp_path / "folder")


@pytest.mark.parametrize("change", ["images", "labels", "classes", "more"])
def test_other_arrays_than_a_splits_are_named(change: str, tmp_path: Path):
    split = draw_split()
    arrays = {"images": split.images, "labels": split.labels, "classes": np.array(5)}
    if change == "more":
        arrays["more"] = np.zeros(1)
    else:
        arrays[change] = arrays[change].astype(np.float32)
    write_arrays(tmp_path / "split", arrays)
    assert read_arrays(tmp_path / "split").keys() == arrays.keys()
    with pytest.raises(ValueError, match="split: not the images, labels and classes of a split"):
        read_split(tmp_path / "split")


def test_an_older_file_without_a_digest_is_named(tmp_path: Path):
    save_file({"images": np.zeros(1)}, tmp_path / "split")
    assert "split: not the content that was written to it" in refused(tmp_path / "split")


def test_a_disk_that_does_not_take_a_file_is_one_line_and_leaves_the_old_one(tmp_path: Path):
    """A limit on the size of files stands for a full disk."""
    path = tmp_path / "split"
    write_split(path, draw_split())
    before = path.read_bytes()
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from pipeline.data.arrays import write_arrays
from pipeline.run.process import run_stage
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
run_stage(lambda: write_arrays(Path(sys.argv[1]), {"a": np.zeros(100_000, np.uint8)}))
"""
    command = [sys.executable, "-c", code, str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {path}: cannot be written: ")
    assert "File too large" in result.stderr
    assert result.stderr.count("\n") == 1
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["split"]


def test_a_file_that_does_not_reach_the_disk_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ValueError, match=r"split: cannot be written: .*Input/output error"):
        write_split(tmp_path / "split", draw_split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_dvc_trusts_its_cache_and_mends_it_as_the_readme_says(tmp_path: Path):
    """What README.md says under Damaged files: pinned, for a DVC that looks by itself would make it superfluous."""
    environment = {
        **os.environ,
        "DVC_SITE_CACHE_DIR": str(tmp_path / "site"),
        "DVC_NO_ANALYTICS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def run(command: str) -> str:
        words = command.split()
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    (tmp_path / "make.py").write_text(
        "from pathlib import Path\nimport numpy as np\nfrom pipeline.data.arrays import write_arrays\n"
        "write_arrays(Path('data/x'), {'a': np.arange(100)})\n"
    )
    (tmp_path / "dvc.yaml").write_text("stages: {make: {cmd: python make.py, deps: [make.py], outs: [data]}}\n")
    run("dvc init -q --no-scm")
    run("dvc repro -q")
    size = (tmp_path / "data" / "x").stat().st_size
    (kept,) = (path for path in (tmp_path / ".dvc/cache").rglob("*") if path.is_file() and path.stat().st_size == size)
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes()[:-1] + b"\x01")
    kept.chmod(0o444)
    run("rm -r data")
    assert "Running stage" not in run("dvc repro")  # restored from the cache, wrong
    with pytest.raises(ValueError, match="x: not the content that was written to it"):
        read_arrays(tmp_path / "data" / "x")
    assert "Running stage" not in run("dvc repro")
    run("rm -r data")
    run("chmod -R u+w .dvc/cache/files")
    assert "Running stage 'make'" in run("dvc repro")
    assert read_arrays(tmp_path / "data" / "x")["a"].tolist() == list(range(100))
    run("rm -r data")
    assert "Running stage" not in run("dvc repro")
    assert read_arrays(tmp_path / "data" / "x")["a"].tolist() == list(range(100))
