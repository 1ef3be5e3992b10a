"""A local HTTP server that misbehaves as it is told: one act a request, the last one for all that follow."""

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Act = Callable[["Handler"], None]


class Server:
    """What is asked of it, in order, and how many bytes of content it has sent."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.script: list[Act] = [serve()]
        self.asked: list[dict[str, str]] = []
        self.sent = 0
        self.closing = threading.Event()
        outer = self

        class Bound(Handler):
            server_state = outer

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    """One request; an act writes the answer."""

    server_state: Server

    def do_GET(self) -> None:
        state = self.server_state
        state.asked.append({**{key.lower(): value for key, value in self.headers.items()}, "path": self.path})
        act = state.script.pop(0) if len(state.script) > 1 else state.script[0]
        with suppress(OSError):  # the client has gone
            act(self)
        self.close_connection = True

    def head(self, status: int, **headers: Any) -> None:
        """Status line and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, content: bytes) -> None:
        """A piece of the body, counted."""
        self.wfile.write(content)
        self.wfile.flush()
        self.server_state.sent += len(content)

    def wait(self, seconds: float) -> None:
        """Do nothing, unless the test is over."""
        self.server_state.closing.wait(seconds)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def run_server(content: bytes) -> Iterator[Server]:
    """A server for as long as the block runs."""
    server = Server(content)
    threading.Thread(target=server.httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.closing.set()
        server.httpd.shutdown()
        server.httpd.server_close()


def serve(
    keep: int | None = None,
    *,
    content: bytes | None = None,
    etag: str | None = '"v1"',
    ranges: bool = True,
    heed_if_range: bool = True,
    length: bool = True,
    more: bytes = b"",
    then: float = 0,
) -> Act:
    """As a good server does, but for what is said.

    Args:
        keep: bytes of the body that are sent.
        length: whether it is announced.
        more: what is sent beyond the announced body.
        then: seconds of silence before the connection ends.
    """

    def act(handler: Handler) -> None:
        whole = handler.server_state.content if content is None else content
        headers: dict[str, Any] = {} if etag is None else {"ETag": etag}
        span = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = not heed_if_range or handler.headers.get("If-Range", etag) == etag
        start, status = 0, 200
        if span and ranges and same:
            start, status = int(span[1]), 206
            headers["Content_Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        if length:
            headers["Content_Length"] = len(whole) - start
        handler.head(status, **headers)
        handler.send(whole[start:][:keep] + more)
        handler.wait(then)

    return act


def answer(status: int, body: bytes = b"", **headers: Any) -> Act:
    """A fixed answer."""

    def act(handler: Handler) -> None:
        handler.head(status, Content_Length=len(body), **headers)
        handler.send(body)

    return act


def redirect(*targets: str, status: int = 302) -> Act:
    """To each target in turn, the last one again and again."""
    left = list(targets)
    return lambda handler: handler.head(status, Location=left.pop(0) if len(left) > 1 else left[0], Content_Length=0)


def chunked(keep: int | None = None) -> Act:
    """In pieces, without a length; with `keep`, cut off after so many bytes."""

    def act(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.head(200, Transfer_Encoding="chunked")
        content = handler.server_state.content[:keep]
        for start in range(0, len(content), 50_000):
            piece = content[start : start + 50_000]
            handler.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        if keep is None:
            handler.wfile.write(b"0\r\n\r\n")

    return act


def drip(pause: float, *, headers: bool = False) -> Act:
    """One byte after the other, of the headers or of the body."""

    def act(handler: Handler) -> None:
        if headers:
            handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
        else:
            handler.head(200, Content_Length=len(handler.server_state.content))
        for byte in handler.server_state.content:
            handler.send(b"x" if headers else bytes([byte]))
            handler.wait(pause)
            if handler.server_state.closing.is_set():
                return

    return act


def say(text: bytes) -> Act:
    """Raw bytes in place of an answer."""
    return lambda handler: handler.send(text)


def silence(seconds: float) -> Act:
    """No answer at all."""
    return lambda handler: handler.wait(seconds)
