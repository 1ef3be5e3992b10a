"""Archives that mean harm: nothing of them leaves the reader but the bytes that were asked for, or one line."""

import gzip
import io
import os
import pickle
import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_data import cifar_archive, describe_source, fetch_from

from pipeline.data import archive
from pipeline.data.archive import read_archive

WANTED = "folder/wanted"


def add(tar: tarfile.TarFile, name: str, content: bytes = b"x", **fields) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content) if member.isreg() else None)


def pack(path: Path, *fills: Callable[[tarfile.TarFile], None]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for fill in fills:
            fill(tar)
    return path


def wanted(tar: tarfile.TarFile) -> None:
    add(tar, WANTED, b"right")


def refused(path: Path) -> str:
    before = sorted(path.parent.rglob("*"))
    start = time.monotonic()
    with pytest.raises(ValueError, match=path.name) as error:
        read_archive(path, [WANTED])
    assert time.monotonic() - start < 10
    assert sorted(path.parent.rglob("*")) == before
    assert str(error.value).isprintable()
    return str(error.value)


def test_what_is_asked_for_comes_and_all_else_is_left(tmp_path: Path):
    path = pack(tmp_path / "a.tar.gz", lambda tar: add(tar, "folder", type=tarfile.DIRTYPE, size=0), wanted,
                lambda tar: add(tar, "folder/readme.html", b"<html>"))  # fmt: skip
    assert read_archive(path, [WANTED]) == {WANTED: b"right"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar.gz"]


MEMBERS: dict[str, tuple[Callable[[tarfile.TarFile], None], str]] = {
    "a path upwards": (lambda tar: add(tar, "folder/../../evil"), "'folder/../../evil' leads outside"),
    "a path from the root": (lambda tar: add(tar, "/etc/evil"), "'/etc/evil' leads outside"),
    "escapes": (lambda tar: add(tar, "../\x1b[31m\n"), r"'../\x1b[31m\n' leads outside"),
    "a symbolic link": (lambda tar: add(tar, WANTED, type=tarfile.SYMTYPE, linkname="/etc/passwd"), "neither a plain"),
    "a hard link": (lambda tar: add(tar, WANTED, type=tarfile.LNKTYPE, linkname="a", size=0), "neither a plain file"),
    "a link to itself": (lambda tar: add(tar, WANTED, type=tarfile.LNKTYPE, linkname=WANTED, size=0), "neither"),
    "a pipe": (lambda tar: add(tar, "pipe", type=tarfile.FIFOTYPE, size=0), "'pipe' is neither a plain file"),
    "a device": (
        lambda tar: add(tar, "zero", type=tarfile.CHRTYPE, devmajor=1, devminor=5, size=0),
        "'zero' is neither",
    ),
    "a disk": (lambda tar: add(tar, "disk", type=tarfile.BLKTYPE, size=0), "'disk' is neither a plain file"),
    "a sparse file": (
        lambda tar: add(tar, WANTED, pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9999999"}),
        "neither a plain file",
    ),
    "a folder in its place": (lambda tar: add(tar, WANTED, type=tarfile.DIRTYPE, size=0), "is a folder"),
    "one name twice": (wanted, f"'{WANTED}' is a folder, or is there twice"),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("member", "says"), MEMBERS.values(), ids=MEMBERS.keys())
def test_a_member_that_no_data_set_has_is_named(
    member: Callable[[tarfile.TarFile], None], says: str, first: bool, tmp_path: Path
):
    path = pack(tmp_path / "a.tar.gz", *([member, wanted] if first else [wanted, member]))
    assert says in refused(path)


def test_a_missing_member_is_named(tmp_path: Path):
    assert refused(pack(tmp_path / "a.tar.gz")).endswith(f"a.tar.gz: no file {WANTED} in it")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST_BYTES", 1 << 20)
    monkeypatch.setattr(archive._Bounded, "left", 1 << 20)


@pytest.mark.usefixtures("small")
def test_a_member_that_is_too_big_is_not_read(tmp_path: Path):
    path = pack(tmp_path / "a.tar.gz", lambda tar: add(tar, WANTED, bytes(1 << 21)))
    assert f"'{WANTED}' has 2097152 bytes, at most 1048576 are allowed" in refused(path)


@pytest.mark.usefixtures("small")
def test_members_that_are_too_big_together_are_not_read(tmp_path: Path):
    parts = [lambda tar, name=name: add(tar, name, bytes(1 << 19)) for name in "abc"]
    assert "it unpacks to more than 1048576 bytes" in refused(pack(tmp_path / "a.tar.gz", *parts, wanted))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["comment", "path", "size"])
def test_a_header_that_is_too_big_is_not_read(name: str, tmp_path: Path):
    path = pack(tmp_path / "a.tar.gz", lambda tar: add(tar, WANTED, pax_headers={name: "9" * (1 << 21)}))
    assert "it unpacks to more than" in refused(path)


def test_the_bounds_leave_room_for_cifar():
    assert archive._MOST_BYTES > 60000 * 3074 * 1.2
    assert archive._Bounded.left == archive._MOST_BYTES


def test_thousands_of_members_are_not_read(tmp_path: Path):
    def fill(tar: tarfile.TarFile) -> None:
        for index in range(3000):
            add(tar, str(index), b"")

    assert "more than 1000 members" in refused(pack(tmp_path / "a.tar.gz", fill, wanted))


def raw(path: Path, *blocks: bytes) -> Path:
    path.write_bytes(gzip.compress(b"".join(blocks)))
    return path


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_of_headers_of_headers_end(kind: bytes, tmp_path: Path):
    content = b"" if kind != tarfile.GNUTYPE_LONGNAME else b"name\0".ljust(512, b"\0")
    chain = header("x", kind, len(content) and 5) + content
    refused(raw(tmp_path / "a.tar.gz", chain * 5000, header("end")))


@pytest.mark.parametrize("size", [-512, -1024, -(2**40), 2**63, 2**80])
def test_sizes_that_cannot_be_end(size: int, tmp_path: Path):
    block = bytearray(header(WANTED))
    marker = b"\xff" if size < 0 else b"\x80"
    block[124:136] = marker + (size % 256**11).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    refused(raw(tmp_path / "a.tar.gz", bytes(block), header("more")))


def mutate(content: bytes, chance: random.Random) -> bytes:
    """The content with a few bytes changed, cut out or doubled."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed))
        match chance.randrange(4):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                del changed[at : at + chance.randint(1, 600)]
            case 2:
                changed[at:at] = changed[at : at + chance.randint(1, 600)]
            case 3:  # a field of a header, where there is most to be broken
                at = at // 512 * 512 + chance.choice([100, 124, 136, 148, 156, 257, 345])
                changed[at : at + 12] = chance.choice([b"\xff" * 12, b"\x80" + b"\xff" * 11, b"7" * 12, b" " * 12])
        changed = changed or bytearray(1)
    return bytes(changed)


@pytest.mark.parametrize("packed", [True, False])
def test_any_damage_gives_the_bytes_or_one_line(packed: bool, tmp_path: Path):
    """Beneath the compression, and in it."""
    path, outcomes = tmp_path / "a.tar.gz", {"read": 0, "refused": 0}
    pack(path, lambda tar: add(tar, "long/" * 40, pax_headers={"comment": "é" * 99}), wanted, lambda tar: add(tar, "x"))
    content = path.read_bytes() if packed else gzip.decompress(path.read_bytes())
    for seed in range(1500):
        damaged = mutate(content, random.Random(seed))  # noqa: S311
        path.write_bytes(damaged if packed else gzip.compress(damaged, 1))
        start = time.monotonic()
        try:
            assert list(read_archive(path, [WANTED])) == [WANTED]
            outcome = "read"
        except ValueError as error:
            outcome = "refused" if str(error).isprintable() else repr(error)
        assert time.monotonic() - start < 3
        outcomes[outcome] += 1
    assert min(outcomes.values()) > 20


BINARY = [f"cifar-10-batches-bin/{name}.bin" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]


class Harmful:
    """Pickled: a call of os.system, subprocess or the like."""

    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("padded", [False, True])
def test_pickles_are_never_unpickled(protocol: int, padded: bool, tmp_path: Path):
    """CIFAR's other version is made of pickles. In the right place or the wrong one they are bytes: no code runs."""
    marker = tmp_path / "marker"
    calls = [Harmful(os.mkdir, str(marker)), Harmful(exec, f"open({str(marker)!r}, 'w')"), Harmful(Path.touch, marker)]
    harmful = pickle.dumps({b"data": calls, b"labels": [0]}, protocol)
    if padded:
        harmful = b"\x01" + harmful.ljust(3072, b"\0")
    path = tmp_path / "cifar.tar.gz"
    pack(path, *(lambda tar, i=i: add(tar, f"cifar-10-batches-py/data_batch_{i}", harmful) for i in range(1, 6)))
    with pytest.raises(ValueError, match=r"no file cifar-10-batches-bin/data_batch_1\.bin in it"):
        fetch_from(path, describe_source(path), 10)
    pack(path, *(lambda tar, name=name: add(tar, name, harmful) for name in BINARY))
    if padded:
        train, _ = fetch_from(path, describe_source(path), 10)
        assert train.images[4].tobytes() == harmful[1:]
    else:
        with pytest.raises(ValueError, match=r"data_batch_1\.bin: has \d+ bytes, not a multiple of 3073"):
            fetch_from(path, describe_source(path), 10)
    assert not marker.exists()
    for call in calls:  # that each of them would have left its mark
        pickle.loads(pickle.dumps(call, protocol))  # noqa: S301
        assert marker.exists()
        marker.rmdir() if marker.is_dir() else marker.unlink()


@pytest.mark.parametrize("seed", range(5))
def test_random_pixels_come_as_they_are_whatever_the_order_of_the_members(seed: int, tmp_path: Path):
    generator = np.random.default_rng(seed)
    records = generator.integers(0, 256, (6, 5, 3073), dtype=np.uint8)
    records[:, :, 0] %= 10
    path = tmp_path / "cifar.tar.gz"
    pack(path, *(lambda tar, i=i: add(tar, BINARY[i], records[i].tobytes()) for i in generator.permutation(6)))
    train, test = fetch_from(path, describe_source(path), 10)
    assert np.array_equal(train.images, records[:5, :, 1:].reshape(25, 3, 32, 32))
    assert np.array_equal(test.labels, records[5, :, 0])


def test_a_torn_archive_of_a_hundred_classes_is_refused(tmp_path: Path):
    path = tmp_path / "cifar.tar.gz"
    cifar_archive(path, 100)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cifar\.tar\.gz: not a readable tar\.gz archive"):
        fetch_from(path, describe_source(path), 100)
