"""Downloads: always the right bytes, from the first mirror that has them, or one clear line."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from problems import ROOT
from ruamel.yaml import YAML
from server import Answer, Server, run_server, serve
from test_data import cifar_archive

from pipeline.data.arrays import read_split
from pipeline.data.download import fetch_file
from pipeline.schema.data import RemoteFile

CONTENT = os.urandom(300_000)
OTHER = bytes(len(CONTENT))
FILE = RemoteFile(file="file.bin", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def server() -> Iterator[Server]:
    with run_server(CONTENT) as running:
        yield running


def refused(folder: Path, *mirrors: str) -> str:
    """The one line with which a download fails; nothing is left behind."""
    before = sorted(folder.iterdir()) if folder.exists() else []
    with pytest.raises(ValueError, match="no mirror gives it") as error:
        fetch_file(FILE, mirrors, folder)
    assert str(error.value).isprintable()
    assert sorted(folder.iterdir()) == before
    return str(error.value)


def test_a_file_is_fetched_as_a_whole_and_others_may_read_it(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = fetch_file(FILE, [server.url], tmp_path / "downloads")
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]
    assert "300k/300k" in capsys.readouterr().err  # progress


def test_a_redirect_is_followed_and_a_url_that_ends_in_a_slash_is_a_folder(server: Server, tmp_path: Path):
    server.answers.insert(0, serve(b"", 302, Location="/elsewhere"))
    fetch_file(FILE, [server.url.removesuffix("file.bin") + "data/"], tmp_path)
    assert server.asked == ["/data/file.bin", "/elsewhere"]


def test_what_is_compressed_stays_compressed(server: Server, tmp_path: Path):
    def answer(handler) -> None:
        assert handler.headers["Accept-Encoding"] == "identity"
        serve(CONTENT)(handler)

    server.answers[:] = [answer]
    assert fetch_file(FILE, [server.url], tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("name", [str, Path.as_uri, lambda path: str(path.parent), lambda path: path.parent.as_uri()])
def test_files_and_folders_of_this_machine_are_mirrors(name: Callable[[Path], str], tmp_path: Path):
    source = tmp_path / "a mirror" / "file.bin"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    path = fetch_file(FILE, [name(source)], tmp_path / "downloads")
    assert path.read_bytes() == CONTENT
    assert path.stat().st_ino != source.stat().st_ino


REFUSED: dict[str, tuple[Answer, str]] = {
    "404": (serve(b"", 404), "404 Client Error"),
    "another content": (serve(OTHER), "does not match the known hash"),
    "cut off": (serve(CONTENT, keep=1000), "1000 bytes read"),
    "a page in its place": (serve(b"<html>sign in</html>"), "does not match the known hash"),
}


@pytest.mark.parametrize(("answer", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_had_is_one_line_and_the_next_run_is_free_of_it(
    answer: Answer, says: str, server: Server, tmp_path: Path
):
    server.answers.insert(0, answer)
    line = refused(tmp_path, server.url)
    assert says in line
    assert f"put the file at {tmp_path / 'file.bin'} by hand" in line
    assert fetch_file(FILE, [server.url], tmp_path).read_bytes() == CONTENT


def test_mirrors_are_tried_in_order_and_all_are_named(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder, wrong = tmp_path / "mirror", tmp_path / "wrong.bin"
    folder.mkdir()
    wrong.write_bytes(OTHER)
    with socket.socket() as bound:  # a port on which nobody listens
        bound.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        mirrors = [nobody, str(tmp_path / "none"), (tmp_path / "none").as_uri(), str(folder), str(wrong), "/dev/zero"]
        line = refused(tmp_path / "downloads", *mirrors)
    places = [line.index(f"{mirror}: ") for mirror in mirrors]
    assert places == sorted(places)
    assert "Connection refused" in line
    assert line.count("no such file") == 5  # of the target too
    capsys.readouterr()
    assert fetch_file(FILE, [*mirrors[1:], server.url], tmp_path / "downloads").read_bytes() == CONTENT
    assert f"file.bin: {mirrors[1]}: no such file" in capsys.readouterr().err


def test_what_is_in_place_needs_no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file.bin").write_bytes(CONTENT)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    assert fetch_file(FILE, ["https://example.org/file.bin"], tmp_path) == tmp_path / "file.bin"


@pytest.mark.parametrize("wrong", [CONTENT[:-1], OTHER])
def test_a_wrong_file_in_place_stays_until_the_right_one_is_there(wrong: bytes, server: Server, tmp_path: Path):
    (tmp_path / "file.bin").write_bytes(wrong)
    server.answers.insert(0, serve(b"", 404))
    assert "file.bin: it" in refused(tmp_path, server.url)
    assert (tmp_path / "file.bin").read_bytes() == wrong
    assert fetch_file(FILE, [server.url], tmp_path).read_bytes() == CONTENT


def test_two_downloads_at_once_do_not_spoil_each_other(server: Server, tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch_file(FILE, [server.url], tmp_path), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.slow
def test_the_stage_fetches_or_says_in_one_line_why_not(tmp_path: Path):
    """CIFAR-10 in its true format, small, from a folder that is not always there."""
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    source = cifar_archive(mirror / "cifar-10-binary.tar.gz")
    yaml = YAML()
    spec = yaml.load(tmp_path / "specs" / "data.yaml")
    spec["datasets"]["cifar10"]["source"] = source.model_dump()
    spec["mirrors"][source.file] = ["mirror"]
    yaml.dump(spec, tmp_path / "specs" / "data.yaml")

    def run() -> tuple[int, str]:
        command = [sys.executable, "-m", "stages.fetch", "node", "cifar10"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    code, said = run()
    assert (code, said.splitlines()[0][:17]) == (0, "Downloading data "), said
    assert read_split(tmp_path / "data/node/cifar10/train.safetensors").images.shape == (20, 3, 32, 32)
    shutil.rmtree(mirror)
    assert run() == (0, "")
    (tmp_path / "downloads" / source.file).write_bytes(b"torn")
    code, said = run()
    assert code == 1
    assert "Traceback" not in said
    flaw = f"downloads/cifar-10-binary.tar.gz: it has 4 bytes, expected {source.size}"
    error = said.splitlines()[-1]
    assert error.startswith(f"error: {flaw}, and no mirror gives it (mirror: no such file); put the file at downloads/")
