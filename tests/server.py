"""A local HTTP server for downloads: one answer a request, the last one for all that follow."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    answers: list[Answer]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(self)

    def log_message(self, *args: object) -> None:
        pass


class Server:
    """Where it is, what it answers, and which paths it was asked for."""

    def __init__(self, port: int, answers: list[Answer]) -> None:
        self.url = f"http://127.0.0.1:{port}/file.bin"
        self.answers = answers
        self.asked: list[str] = []


def serve(content: bytes, status: int = 200, keep: int | None = None, **headers: str) -> Answer:
    """An answer; with `keep`, only so many bytes of what it announces."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content[:keep])

    return answer


@contextmanager
def run_server(content: bytes) -> Iterator[Server]:
    """A server for as long as the block runs; it gives the content unless it is told otherwise."""

    class Bound(Handler):
        pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    httpd.daemon_threads = True
    server = Server(httpd.server_port, [serve(content)])
    Bound.answers, Bound.asked = server.answers, server.asked
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
