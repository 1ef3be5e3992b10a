"""One file over HTTP: resumed where it broke off, never beyond its size, with an end to every wait."""

import queue
import re
import sys
import threading
import time
from http.client import responses
from urllib.parse import urljoin, urlsplit

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError
from urllib3.util.retry import Retry

from pipeline.data.partial import MirrorError, Partial, Patience, name_mirror

_BLOCK = 1 << 20
_REDIRECTS = 5
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
"""Answers after which the same request may succeed (RFC 9110, 6585 and 8470)."""


class _TransientError(MirrorError):
    """Another try may succeed, and go on from there."""

    def __init__(self, problem: str, pause: float | None = None) -> None:
        super().__init__(problem)
        self.pause = pause
        """Seconds, as the server asks."""


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: `_follow` goes there, whereas requests would read the whole body of a redirect first."""


def _find_cause(error: BaseException) -> str:
    """The innermost cause in one line: what the operating system or the server said."""
    for _ in range(20):
        inner = getattr(error, "reason", None)
        inner = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    text = str(error) or type(error).__name__
    return "".join(char if char.isprintable() else "?" for char in text)[:200]


def _ask(url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
    """The answer, its body unread.

    It is asked for in a thread, because nothing else bounds the whole: the time-outs of a socket begin anew with every
    byte, and looking up a name has none.
    """
    answers: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            with _Session() as session:
                answers.put(session.get(url, headers=headers, stream=True, timeout=(patience.connect, patience.stall)))
        except Exception as error:  # the other thread raises it
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=patience.answer)
    except queue.Empty:
        raise _TransientError(f"no answer within {patience.answer:g} s") from None
    if isinstance(answer, requests.Response):
        return answer
    if isinstance(answer, requests.Timeout):
        if isinstance(answer, requests.ConnectTimeout):
            raise _TransientError(f"no connection within {patience.connect:g} s")
        raise _TransientError(f"no answer for {patience.stall:g} s")
    if isinstance(answer, requests.exceptions.SSLError):
        raise MirrorError(f"no secure connection: {_find_cause(answer)}")
    if isinstance(answer, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        raise _TransientError(f"no connection: {_find_cause(answer)}")
    if isinstance(answer, requests.RequestException | HTTPError | ValueError):
        raise MirrorError(f"cannot be asked: {_find_cause(answer)}")
    raise answer


def _follow(url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
    """The answer behind a few redirects, none of which leads from https to less."""
    for _ in range(_REDIRECTS + 1):
        response = _ask(url, headers, patience)
        if not response.is_redirect:
            return response
        response.close()
        try:
            target = urljoin(url, response.headers["location"])
            shown, scheme = repr(name_mirror(target)), urlsplit(target).scheme
        except ValueError:
            raise MirrorError("redirects to what is no URL") from None
        if scheme not in ("http", "https") or (scheme == "http" and urlsplit(url).scheme == "https"):
            raise MirrorError(f"redirects to {shown}, which is refused")
        url = target
    raise MirrorError(f"redirects more than {_REDIRECTS} times")


def _read_pause(response: requests.Response) -> float | None:
    try:
        return Retry().get_retry_after(response.raw)
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _check_status(response: requests.Response) -> None:
    code = response.status_code
    if code in (200, 206):
        return
    problem = f"answers {code} {responses.get(code, '')}".rstrip()
    raise _TransientError(problem, _read_pause(response)) if code in _TRANSIENT else MirrorError(problem)


def _check_size(found: str, size: int) -> None:
    if re.fullmatch(r"[0-9]{1,18}", found) and int(found) != size:
        raise MirrorError(f"the file has {int(found)} bytes there, expected {size}")


def _check_part(response: requests.Response, known: str | None, partial: Partial, have: int) -> None:
    """That an answer with a part of a file goes on where we are."""
    span = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", response.headers.get("content-range", ""))
    if span is None or int(span[1]) != have:
        partial.discard()
        raise _TransientError("answers with another part of the file than it was asked for")
    _check_size(span[2], partial.file.size)
    if known and response.headers.get("etag", known) != known:
        partial.discard()
        raise _TransientError("the file has changed there")


def _request(url: str, partial: Partial, have: int, patience: Patience) -> requests.Response:
    """The answer whose body goes to the end of `partial`, or to its beginning if that is what comes."""
    headers, known = {"Accept-Encoding": "identity"}, partial.recall_etag(url) if have else None
    if have:
        headers["Range"] = f"bytes={have}-"
    if known:
        headers["If-Range"] = known
    response = _follow(url, headers, patience)
    try:
        if have and response.status_code == 416:
            partial.discard()
            raise _TransientError("has no more of the file than had come before")
        _check_status(response)
        if response.status_code == 206:
            _check_part(response, known, partial, have)
        else:
            _check_size(response.headers.get("content-length", ""), partial.file.size)
            etag = response.headers.get("etag")
            partial.begin(url, None if etag is None or etag.startswith("W/") else etag)  # weak ones: RFC 9110, 13.1.5
    except MirrorError:
        response.close()
        raise
    return response


def _read_block(response: requests.Response, most: int, patience: Patience) -> bytes:
    try:
        block: bytes = response.raw.read1(most, decode_content=False)
    except ReadTimeoutError:
        raise _TransientError(f"sent nothing for {patience.stall:g} s") from None
    except HTTPError as error:
        raise _TransientError(f"broke off: {_find_cause(error)}") from None
    if not block:
        raise _TransientError("broke off")
    return block


def _receive(response: requests.Response, partial: Partial, patience: Patience) -> None:
    """Append a body, as it comes, until the file has its size; whatever a server sends beyond that is not read."""
    have, size = partial.measure(), partial.file.size
    bar = tqdm(desc=partial.target.name, total=size, initial=have, unit="B", unit_scale=True, disable=None)
    since, mark = time.monotonic(), have
    with bar, partial.open() as file:
        while have < size:
            block = _read_block(response, min(_BLOCK, size - have), patience)
            file.write(block)
            file.flush()  # what has come survives a kill
            have += len(block)
            bar.update(len(block))
            elapsed = time.monotonic() - since
            if elapsed >= patience.stall:
                if have - mark < elapsed * patience.slowest:
                    raise _TransientError(f"sent less than {patience.slowest:g} bytes a second")
                since, mark = time.monotonic(), have


def _advance(url: str, partial: Partial, patience: Patience) -> bool:
    """One try; returns whether the whole file came in this one answer."""
    have = partial.measure()
    if have == partial.file.size:
        return False
    with _request(url, partial, have, patience) as response:
        start = partial.measure()
        sizes = f"{partial.file.size / 1e6:.1f} MB" + (f", {start / 1e6:.1f} of them had come before" if start else "")
        print(f"{partial.target.name}: {sizes}, from {name_mirror(url)}", file=sys.stderr)
        _receive(response, partial, patience)
    return start == 0


def transfer_url(url: str, partial: Partial, patience: Patience) -> bool:
    """Bring `partial` to the size of its file; what had come before is gone on with.

    Returns whether all of it came in one answer, and so is one version of one file.

    Raises:
        MirrorError: it is not to be had from there; what has come is kept.
        OSError: it cannot be written.
    """
    failures, most = 0, partial.measure()
    while True:
        try:
            return _advance(url, partial, patience)
        except _TransientError as error:
            problem, asked = str(error), error.pause
        have = partial.measure()
        failures = 0 if have >= most + partial.file.size / 100 else failures + 1
        most = max(most, have)
        if failures == patience.tries:
            raise MirrorError(f"{problem} (tried {failures} times)")
        if asked is not None and asked > patience.longest:
            raise MirrorError(f"{problem} and to come back in {asked:.0f} s")
        pause = min(patience.backoff * 2 ** max(failures - 1, 0), patience.longest) if asked is None else asked
        print(f"{partial.target.name}: {name_mirror(url)}: {problem}; again in {pause:g} s", file=sys.stderr)
        time.sleep(pause)
