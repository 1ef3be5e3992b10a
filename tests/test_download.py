"""Downloads from a server that does everything wrong: always the right bytes, or one clear line, in bounded time."""

import errno
import hashlib
import io
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from problems import ROOT
from ruamel.yaml import YAML
from server import Act, Handler, Server, answer, chunked, drip, redirect, run_server, say, serve, silence
from test_data import cifar_archive

from pipeline.data.arrays import read_split
from pipeline.data.download import fetch_file
from pipeline.data.partial import Partial, Patience, name_mirror
from pipeline.schema.data import RemoteFile

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
HALF = len(CONTENT) // 2
OTHER = bytes(len(CONTENT))
FILE = RemoteFile(file="file.bin", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
CALM = Patience(connect=20, answer=20, stall=20, tries=3, backoff=0.01, longest=0.2)
"""No wait ends by itself, however busy the machine is."""
HASTE = Patience(connect=0.5, answer=0.8, stall=0.3, slowest=10_000, tries=3, backoff=0.01, longest=0.2)
"""For servers that do not answer."""
LONGEST = 15.0
"""Seconds that any outcome may take on a busy machine: most take a tenth, the slowest 2.5."""


@pytest.fixture
def server() -> Iterator[Server]:
    with run_server(CONTENT) as running:
        yield running


def fetch(folder: Path, *mirrors: str, patience: Patience = CALM) -> Path:
    start = time.monotonic()
    try:
        return fetch_file(FILE, mirrors, folder, patience)
    finally:
        assert time.monotonic() - start < LONGEST


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"file.bin.lock"}


def refused(folder: Path, *mirrors: str, patience: Patience = CALM) -> str:
    """The one line with which a download fails; nothing has the file's name then."""
    with pytest.raises(ValueError, match="no mirror gives it") as error:
        fetch(folder, *mirrors, patience=patience)
    line = str(error.value)
    assert line.isprintable()
    assert "put the file at" in line
    assert not (folder / "file.bin").exists()
    return line


# ---- Right in the end ------------------------------------------------------------------------------------------------

RECOVERED: dict[str, list[Act]] = {
    "at once": [serve()],
    "in chunks": [chunked()],
    "without a length": [serve(length=False)],
    "cut off": [serve(keep=HALF), serve()],
    "cut off again and again": [serve(keep=HALF // 2)] * 3 + [serve()],
    "cut off by a few bytes": [serve(keep=len(CONTENT) - 3), serve()],
    "cut off without a length": [serve(keep=HALF, length=False), serve()],
    "cut off between chunks": [chunked(keep=HALF), serve()],
    "cut off, then no ranges": [serve(keep=HALF), serve(ranges=False)],
    "cut off, then nothing": [serve(keep=HALF), say(b""), serve()],
    "503": [answer(503), serve()],
    "500 and 502 in between": [answer(500), serve(keep=HALF), answer(502), serve(keep=HALF // 2), answer(504), serve()],
    "429 that says when": [answer(429, Retry_After=0), serve()],
    "429 that says nonsense": [answer(429, Retry_After="soon"), serve()],
    "429 that says more nonsense": [answer(429, Retry_After="9" * 5000), serve()],
    "redirected": [redirect("/elsewhere"), serve()],
    "redirected without a host": [redirect("elsewhere?a=b", status=307), serve()],
    "redirected anew when it goes on": [redirect("/1"), serve(keep=HALF), redirect("/2"), serve()],
    "another part than asked for": [
        serve(keep=HALF),
        answer(206, CONTENT[100:], Content_Range=f"bytes 100-{len(CONTENT) - 1}/{len(CONTENT)}"),
        serve(),
    ],
    "a part that does not say which": [serve(keep=HALF), answer(206, CONTENT[HALF:]), serve()],
    "a part that says nonsense": [serve(keep=HALF), answer(206, CONTENT, Content_Range="bytes x-y/z"), serve()],
    "a part in smaller parts": [
        serve(keep=HALF),
        answer(206, CONTENT[HALF:-9], Content_Range=f"bytes {HALF}-{len(CONTENT) - 10}/*"),
        serve(),
    ],
    "no such part": [serve(keep=HALF), answer(416), serve()],
    "changed in between": [serve(keep=HALF, content=OTHER), serve(etag='"v2"')],
    "changed, the condition ignored": [serve(keep=HALF, content=OTHER), serve(etag='"v2"', heed_if_range=False)],
    "more than announced": [serve(more=b"x" * 1000)],
    "more, and nothing announced": [serve(more=b"x" * 1000, length=False)],
    "no HTTP": [say(b"\x1b[31mSSH-2.0\r\n"), serve()],
    "a wrong size of a chunk": [say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), serve()],
    "a thousand headers": [say(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n"), serve()],
}


UNNOTICED: dict[str, list[Act]] = {
    "changed, and nobody says so": [serve(keep=HALF, content=OTHER, etag=None), serve(etag=None)],
    "changed, and the tag is a weak one": [serve(keep=HALF, content=OTHER, etag='W/"1"'), serve(etag='W/"1"')],
}
"""What only the checksum of the whole brings to light."""
LATE: dict[str, list[Act]] = {
    "stalled": [serve(keep=HALF, then=5), serve()],
    "dripped": [drip(0.01), serve()],
    "silent": [silence(5), serve()],
    "headers dripped": [drip(0.02, headers=True), serve()],
}
"""What ends because a wait ends."""


@pytest.mark.parametrize("script", RECOVERED.values(), ids=RECOVERED.keys())
def test_the_right_bytes_come_in_the_end(
    script: list[Act], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    server.script = list(script)
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    assert left(tmp_path) == {"file.bin"}
    assert len(server.script) == 1  # it was not over before the script was
    assert "wrong as a whole" not in capsys.readouterr().err  # what is wrong was noticed when it came


@pytest.mark.parametrize("script", UNNOTICED.values(), ids=UNNOTICED.keys())
def test_a_mixture_of_two_versions_is_fetched_anew(
    script: list[Act], server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    server.script = list(script)
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    assert left(tmp_path) == {"file.bin"}
    assert "wrong as a whole" in capsys.readouterr().err


@pytest.mark.parametrize("script", LATE.values(), ids=LATE.keys())
def test_a_server_that_falls_silent_is_asked_again(script: list[Act], server: Server, tmp_path: Path):
    server.script = list(script)
    assert fetch(tmp_path, server.url, patience=HASTE).read_bytes() == CONTENT
    assert left(tmp_path) == {"file.bin"}
    assert len(server.asked) > 1


def test_only_the_rest_is_asked_for_and_of_the_same_version_only(server: Server, tmp_path: Path):
    server.script = [serve(keep=HALF), serve()]
    fetch(tmp_path, server.url)
    assert "range" not in server.asked[0]
    assert (server.asked[1]["range"], server.asked[1]["if-range"]) == (f"bytes={HALF}-", '"v1"')
    assert server.sent == len(CONTENT)


def test_a_weak_tag_makes_no_condition(server: Server, tmp_path: Path):
    server.script = [serve(keep=HALF, etag='W/"1"'), serve(etag='W/"1"')]
    fetch(tmp_path, server.url)
    assert server.asked[1]["range"] == f"bytes={HALF}-"
    assert "if-range" not in server.asked[1]  # RFC 9110, 13.1.5


def test_what_came_whole_and_is_wrong_is_not_fetched_twice(server: Server, tmp_path: Path):
    server.script = [serve(content=OTHER)]
    refused(tmp_path, server.url)
    assert len(server.asked) == 1


def test_a_file_that_changes_all_the_time_is_given_up(server: Server, tmp_path: Path):
    server.script = [serve(keep=HALF, etag=f'"v{version}"', heed_if_range=False) for version in range(1000)]
    assert "(tried 3 times)" in refused(tmp_path, server.url)
    assert len(server.asked) < 10


def test_a_connection_that_breaks_a_hundred_times_is_no_obstacle_as_long_as_something_comes(
    server: Server, tmp_path: Path
):
    server.script = [serve(keep=len(CONTENT) // 20)]
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_rubbish_left_by_another_time_is_not_built_upon(server: Server, tmp_path: Path):
    for size in (1, HALF, len(CONTENT), len(CONTENT) + 1):
        (tmp_path / "file.bin").unlink(missing_ok=True)
        (tmp_path / "file.bin.partial").write_bytes(bytes(size))
        (tmp_path / "file.bin.partial.origin").write_bytes(b"\xff\n\n\n\n")
        assert fetch(tmp_path, server.url).read_bytes() == CONTENT
        assert left(tmp_path) == {"file.bin"}


# ---- Refused ---------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[list[Act], str]] = {
    "404": ([answer(404)], "answers 404 Not Found"),
    "403": ([answer(403)], "answers 403 Forbidden"),
    "a status of its own": ([answer(799)], r"answers 799\)"),
    "503 for ever": ([answer(503)], r"answers 503 Service Unavailable \(tried 3 times\)"),
    "429 for an hour": ([answer(429, Retry_After=3600)], "answers 429 Too Many Requests and to come back in 3600 s"),
    "corrupt": ([serve(content=OTHER)], f"its sha256 is {hashlib.sha256(OTHER).hexdigest()}, expected {FILE.sha256}"),
    "corrupt when it goes on": ([serve(keep=HALF), serve(content=OTHER)], "its sha256 is"),
    "one bit": ([serve(content=CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))], "its sha256 is"),
    "too short": ([serve(content=CONTENT[:-1])], "the file has 299999 bytes there, expected 300000"),
    "too long": ([serve(content=CONTENT + b"x")], "the file has 300001 bytes there, expected 300000"),
    "too long when it goes on": ([serve(keep=HALF), serve(content=CONTENT + b"x")], "has 300001 bytes there"),
    "a page in its place": ([answer(200, b"<html>sign in</html>")], "the file has 20 bytes there"),
    "nothing": ([answer(200)], "the file has 0 bytes there"),
    "nothing, not announced": ([serve(keep=0, length=False)], "broke off"),
    "a loop": ([redirect("/file.bin")], "redirects more than 5 times"),
    "a chain": ([redirect(*(f"/{step}" for step in range(50)))], "redirects more than 5 times"),
    "to a file": ([redirect("file:///etc/passwd")], "redirects to 'file:///etc/passwd', which is refused"),
    "to another scheme": ([redirect("ftp://127.0.0.1/x")], "redirects to 'ftp://127.0.0.1/x', which is refused"),
    "to no URL": ([redirect("http://[")], "redirects to what is no URL"),
    "to no port": ([redirect("http://127.0.0.1:99999999/")], "cannot be asked"),
    "to nowhere": ([answer(301)], "answers 301 Moved Permanently"),
    "no HTTP": ([say(b"\x1b[31mSSH-2.0\r\n")], r"no connection: \?\[31mSSH"),
}


NEVER: dict[str, tuple[list[Act], str]] = {
    "stalls for ever": ([serve(keep=1, then=5)], r"sent nothing for 0.3 s \(tried 3 times\)"),
    "drips for ever": ([drip(0.01)], "sent less than 10000 bytes a second"),
    "silent for ever": ([silence(5)], "no answer for 0.3 s"),
    "drips headers for ever": ([drip(0.02, headers=True)], "no answer within 0.8 s"),
}


@pytest.mark.parametrize(("script", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_had_is_one_line(script: list[Act], says: str, server: Server, tmp_path: Path):
    server.script = list(script)
    line = refused(tmp_path, server.url)
    assert re.search(says, line), line
    server.script = [serve()]  # whatever it left behind does not stand in the way of the next run
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    assert left(tmp_path) == {"file.bin"}


@pytest.mark.parametrize(("script", "says"), NEVER.values(), ids=NEVER.keys())
def test_a_server_that_never_answers_is_left(script: list[Act], says: str, server: Server, tmp_path: Path):
    server.script = list(script)
    line = refused(tmp_path, server.url, patience=HASTE)
    assert re.search(says, line), line


@pytest.mark.parametrize("seed", range(60))
def test_any_answer_gives_the_right_bytes_or_one_line(seed: int, server: Server, tmp_path: Path):
    """Answers of a good server, whole or in part, with a few bytes of their headers changed."""
    chance = random.Random(seed)  # noqa: S311

    def garble(status: str, headers: str, content: bytes) -> Act:
        head = bytearray(f'HTTP/1.1 {status}\r\n{headers}\r\nETag: "v1"\r\n\r\n'.encode())
        for _ in range(chance.randint(0, 3)):
            at = chance.randrange(8, len(head))
            head[at : at + chance.randint(0, 6)] = chance.choice([b"", b"\r\n", b":", b"9" * 20, b"-1", b"\0", b"\xff"])
        return say(bytes(head) + content[: chance.choice([len(content), chance.randrange(len(content))])])

    whole, part = f"Content-Length: {len(CONTENT)}", f"Content-Range: bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}"
    answers = [
        ("200 OK", whole, CONTENT),
        ("206 Partial Content", part, CONTENT[HALF:]),
        ("302 Found", "Location: /x", b"x"),
    ]
    server.script = [garble(*chance.choice(answers)) for _ in range(8)]
    (tmp_path / "file.bin.partial").write_bytes(CONTENT[: HALF * (seed % 2)])
    try:
        assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017
        server.script = [serve()]
        assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    assert left(tmp_path) == {"file.bin"}


def test_nobody_there_is_one_line(tmp_path: Path):
    with socket.socket() as bound:  # a port on which nobody listens
        bound.bind(("127.0.0.1", 0))
        url = f"http://user:secret@127.0.0.1:{bound.getsockname()[1]}/file.bin?token=secret"
        line = refused(tmp_path, url, "https://name.invalid/file.bin")
    assert "Connection refused" in line
    assert "https://name.invalid/file.bin: no connection" in line
    assert "secret" not in line


def test_the_body_of_a_redirect_is_not_read(server: Server, tmp_path: Path):
    def flood(handler: Handler) -> None:
        handler.head(302, Location="/elsewhere")
        while handler.server_state.sent < 1 << 27:
            handler.send(bytes(1 << 20))

    server.script = [flood, serve()]
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    assert server.sent < 1 << 26


def test_https_is_never_left_for_http(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = []

    def get(_, url: str, **__) -> requests.Response:
        asked.append(url)
        response = requests.Response()
        response.status_code, response.url, response.raw = 302, url, io.BytesIO()
        response.headers["Location"] = "http://example.org/file.bin"
        return response

    monkeypatch.setattr(requests.Session, "get", get)
    line = refused(tmp_path, "https://example.org/file.bin")
    assert "redirects to 'http://example.org/file.bin', which is refused" in line
    assert asked == ["https://example.org/file.bin"]


def test_a_certificate_that_nobody_vouches_for_is_refused(server: Server, tmp_path: Path):
    assert "no secure connection" in refused(tmp_path, server.url.replace("http:", "https:"))


# ---- Mirrors ---------------------------------------------------------------------------------------------------------


def test_mirrors_are_tried_in_order_and_all_are_named_when_none_has_it(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "mirror"
    folder.mkdir()
    wrong = tmp_path / "wrong.bin"
    wrong.write_bytes(OTHER)
    server.script = [answer(404)]
    mirrors = [server.url, str(tmp_path / "none"), (tmp_path / "none").as_uri(), str(folder), str(wrong), "/dev/zero"]
    line = refused(tmp_path / "kept", *mirrors)
    places = [line.index(f"{mirror}: ") for mirror in mirrors]
    assert places == sorted(places)
    assert line.count("no such file") == 4  # of the target too
    assert "its sha256 is" in line
    assert "it is no file" in line
    (folder / "file.bin").write_bytes(CONTENT)
    capsys.readouterr()
    assert fetch(tmp_path / "kept", *mirrors).read_bytes() == CONTENT
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in said] == mirrors[:3]
    assert all(line.endswith("; on to the next mirror") for line in said)


@pytest.mark.parametrize("name", [str, Path.as_uri, lambda path: str(path.parent), lambda path: path.parent.as_uri()])
def test_files_and_folders_of_this_machine_are_mirrors(name: Callable[[Path], str], tmp_path: Path):
    source = tmp_path / "a mirror" / "file.bin"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    path = fetch(tmp_path / "kept", name(source))
    assert path.read_bytes() == CONTENT
    assert path.stat().st_ino != source.stat().st_ino
    assert left(path.parent) == {"file.bin"}


def test_a_url_that_ends_in_a_slash_is_a_folder(server: Server, tmp_path: Path):
    fetch(tmp_path, server.url.removesuffix("file.bin") + "data/")
    assert server.asked[0]["path"] == "/data/file.bin"


def test_another_mirror_goes_on_where_one_broke_off(server: Server, tmp_path: Path):
    with run_server(CONTENT) as other:
        server.script = [serve(keep=HALF), answer(404)]
        assert fetch(tmp_path, server.url, other.url).read_bytes() == CONTENT
        assert other.asked[0]["range"] == f"bytes={HALF}-"
        assert "if-range" not in other.asked[0]  # a tag means something to its own server only
        assert server.sent + other.sent == len(CONTENT)


def test_a_wrong_local_copy_costs_nothing_of_what_has_come(server: Server, tmp_path: Path):
    wrong = tmp_path / "wrong.bin"
    wrong.write_bytes(OTHER)
    server.script = [serve(keep=HALF), answer(404), serve()]
    fetch(tmp_path / "kept", server.url, str(wrong), server.url)
    assert server.sent == len(CONTENT)


def test_a_mirror_is_shown_without_secrets():
    assert name_mirror("https://user:word@host:8/a/b.bin?token=1#x") == "https://host:8/a/b.bin"
    assert name_mirror("/some/folder") == "/some/folder"


# ---- In place, or not ------------------------------------------------------------------------------------------------


def test_what_is_in_place_needs_no_network_and_no_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file.bin").write_bytes(CONTENT)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    assert fetch(tmp_path, "https://example.org/file.bin") == tmp_path / "file.bin"
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("wrong", [b"", CONTENT[:HALF], OTHER])
def test_a_wrong_file_in_place_is_named_and_fetched_anew(
    wrong: bytes, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "file.bin"
    path.write_bytes(wrong)
    server.script = [answer(404)]
    with pytest.raises(ValueError, match=r"file\.bin: it(s sha256 is \w+| has \d+ bytes), expected .* no mirror gives"):
        fetch(tmp_path, server.url)
    assert path.read_bytes() == wrong  # whose it is, is not ours to say
    server.script = [serve()]
    capsys.readouterr()
    fetch(tmp_path, server.url)
    assert path.read_bytes() == CONTENT
    assert f"{path}: it" in capsys.readouterr().err


# ---- Processes that die, and others beside them ----------------------------------------------------------------------

CHILD = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from pipeline.data.download import fetch_file
from pipeline.run.process import run_stage
from pipeline.schema.data import RemoteFile
file = RemoteFile.model_validate_json({FILE.model_dump_json()!r})
run_stage(lambda: print(fetch_file(file, sys.argv[2:], Path(sys.argv[1]))))
"""


def start(folder: Path, *mirrors: str, before: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", before + CHILD, str(folder), *mirrors]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_download_goes_on_where_it_was(server: Server, tmp_path: Path):
    def pieces(handler: Handler) -> None:
        serve(keep=HALF - 30)(handler)
        for at in range(HALF - 30, HALF, 10):  # smaller than any buffer
            handler.wait(0.05)
            handler.send(CONTENT[at : at + 10])
        handler.wait(60)

    server.script = [pieces, serve()]
    child = start(tmp_path, server.url)
    partial = tmp_path / "file.bin.partial"
    wait_until(lambda: partial.exists() and partial.stat().st_size == HALF)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert not (tmp_path / "file.bin").exists()
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    assert (server.asked[1]["range"], server.asked[1]["if-range"]) == (f"bytes={HALF}-", '"v1"')
    assert server.sent == len(CONTENT)


def test_a_process_killed_before_the_last_step_needs_no_network_again(server: Server, tmp_path: Path):
    (tmp_path / "file.bin.partial").write_bytes(CONTENT)
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    assert server.asked == []


def test_two_processes_fetch_a_file_once(server: Server, tmp_path: Path):
    go_on = tmp_path / "go on"

    def held(handler: Handler) -> None:
        wait_until(go_on.exists)
        serve()(handler)

    server.script = [held, answer(404)]
    children = [start(tmp_path / "kept", server.url)]
    wait_until(lambda: len(server.asked) == 1)
    children.append(start(tmp_path / "kept", server.url))
    assert children[1].stderr is not None
    assert "another process is fetching it; waiting" in children[1].stderr.readline()
    go_on.touch()
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert (child.returncode, out.strip()) == (0, str(tmp_path / "kept" / "file.bin"))
    assert len(server.asked) == 1


def test_a_file_that_the_disk_does_not_take_is_one_line(server: Server, tmp_path: Path):
    """A limit on the size of files stands for a full disk: the write fails where it would."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({HALF}, {HALF}))\n"
    child = start(tmp_path, server.url, before=limit)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert f"error: {tmp_path}/file.bin.partial: File too large; what has come is kept" in err
    assert "Traceback" not in err
    assert left(tmp_path) == {"file.bin.partial", "file.bin.partial.origin"}
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    assert server.asked[1]["range"] == f"bytes={HALF}-"


def test_a_full_disk_is_no_fault_of_the_mirror(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Partial, "open", lambda _: Full())
    with pytest.raises(ValueError, match=r"file\.bin\.partial: No space left on device; what has come is kept$"):
        fetch(tmp_path, server.url, server.url)
    assert len(server.asked) == 1


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

    assert run() == (0, "")
    assert read_split(tmp_path / "data/node/cifar10/train.safetensors").images.shape == (20, 3, 32, 32)
    shutil.rmtree(mirror)
    assert run() == (0, "")
    (tmp_path / "downloads" / source.file).write_bytes(b"torn")
    code, err = run()
    named, error = err.splitlines()
    flaw = f"downloads/cifar-10-binary.tar.gz: it has 4 bytes, expected {source.size}"
    assert (code, named) == (1, f"{flaw}; fetching it anew")
    assert error.startswith(f"error: {flaw}, and no mirror gives it (mirror: no such file); put the file at downloads/")
