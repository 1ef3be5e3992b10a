"""A real browser, without a window, that opens files of this disk and reaches nothing else."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, sync_playwright

REQUIRED = os.environ.get("PIPELINE_BROWSER_TESTS") == "required"
NAMES = ("chromium", "chromium-browser", "google-chrome")
Scheme = Literal["light", "dark"]


def find_browser() -> str | None:
    """PIPELINE_BROWSER, or the first Chromium on PATH."""
    return os.environ.get("PIPELINE_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launch_browser() -> Iterator[Browser]:
    """A running browser; the test is skipped where there is none, and fails if PIPELINE_BROWSER_TESTS=required.

    For a fixture of a module, not of the session: as long as it runs, no other test could call asyncio.run.
    """
    path = find_browser()
    if path is None:
        assert not REQUIRED, "no browser"
        pytest.skip("no browser")
    # Without its sandbox, which is Playwright's default: root, and most containers, could not have it.
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path) as browser:
        yield browser


@dataclass(frozen=True)
class Violation:
    """Of a rule of axe's, with the elements that break it."""

    rule: str
    impact: str
    help: str
    elements: tuple[str, ...]


class Page:
    """An opened file: what it said and asked for, what it looks like, what axe finds in it.

    Attributes:
        said: errors, those that nothing caught included, and warnings of its console.
        requested: every address that it asked for, its own included; data: is none.
    """

    def __init__(
        self, browser: Browser, path: Path, width: int = 1440, scheme: Scheme = "light", script: bool = True
    ) -> None:
        self.said: list[str] = []
        self.requested: list[str] = []
        self.width = width
        self._context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script, offline=True,
            reduced_motion="reduce",
        )  # fmt: skip
        self._context.set_default_timeout(20_000)
        self._context.on("request", lambda request: self.requested.append(request.url))
        self.view = self._context.new_page()
        self.view.on("websocket", lambda socket: self.requested.append(socket.url))
        self.view.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.view.on("console", self._hear)
        self.view.goto(path.as_uri())

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.said.append(f"{message.type}: {message.text}")

    def run(self, script: str, argument: Any = None) -> Any:
        """The value of a JavaScript expression, or of a function of the argument."""
        return self.view.evaluate(script, argument)

    def find(self, selector: str) -> list[Locator]:
        """The elements that a CSS selector finds."""
        return self.view.locator(selector).all()

    def open_details(self) -> None:
        """Unfold everything."""
        self.run("document.querySelectorAll('details').forEach(details => { details.open = true; })")

    def rest(self) -> None:
        """Take the pointer off everything, and let the page finish drawing."""
        self.view.mouse.move(0, 0)
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def take_picture(self, element: Locator | None = None) -> np.ndarray:
        """Pixels of an element, or of what the window shows: height, width, red green blue."""
        data = (self.view if element is None else element).screenshot()
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def list_violations(self, within: str | None = None) -> list[Violation]:
        """What axe calls serious or critical, on the whole page or within what a CSS selector finds."""
        found = Axe().run(self.view, within).response["violations"]
        return [
            Violation(rule["id"], rule["impact"], rule["help"], tuple(node["html"][:200] for node in rule["nodes"]))
            for rule in found
            if rule["impact"] in ("serious", "critical")
        ]


def measure_brightness(pixels: np.ndarray) -> float:
    """The median, from 0 (black) to 255: that of the background, mostly."""
    return float(np.median(pixels.mean(axis=-1)))


def count_colours(pixels: np.ndarray) -> int:
    """Number of different colours."""
    return len(np.unique(pixels.reshape(-1, 3), axis=0))


def count_coloured(pixels: np.ndarray) -> int:
    """Number of pixels that are clearly not grey."""
    return int(np.count_nonzero(np.ptp(pixels, axis=-1) > 60))
