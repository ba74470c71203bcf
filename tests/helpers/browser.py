"""A real browser for the dashboard's tests: Debian's Chromium, headless, driven by playwright; and servers to look at.

    with server(folder, "perdure_module") as site, browser() as chrome:
        page = chrome.open(site.url + "/runs")

Whatever a page's script complains about, or what its content policy keeps from running, fails the test at the end.
Pictures go to PERDURE_SHOTS if that is set, for docs/. Otherwise they are taken with PERDURE_SOAK=1 only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

PERDURE = [sys.executable, "-c", "from perdure.cli import main; main()"]
ROOT = Path(__file__).parents[2]
SOAK = os.environ.get("PERDURE_SOAK") == "1"
PATIENCE = 60_000.0  # milliseconds: how long a page may take to show something, on a loaded machine
CHROMIUM = os.environ.get("PERDURE_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PHONE = {"width": 375, "height": 740}
DESK = {"width": 1280, "height": 860}

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--process-per-site",  # see `Chrome.page`
]

expect.set_options(timeout=PATIENCE)


@dataclass
class Site:
    """A server that runs, in a process of its own."""

    url: str
    database: str
    process: subprocess.Popen[str]


@dataclass
class Chrome:
    """A browser; its pages' complaints are kept."""

    context: BrowserContext
    complaints: list[str] = field(default_factory=list)
    _stays: Page | None = None

    @contextmanager
    def other(self, *, phone: bool = False, allowed: str | None = None) -> Iterator[Chrome]:
        """The same browser with another profile, which is empty; there can be one browser at a time only.

        Args:
            allowed: a pattern of complaints that the test brings about on purpose.
        """
        started = self.context.browser
        assert started is not None
        context = started.new_context(
            viewport=PHONE if phone else DESK,  # type: ignore[arg-type]
            color_scheme="light",
            reduced_motion="reduce",
        )
        try:
            chrome = Chrome(context)
            yield chrome
            chrome.check(allowed)
        finally:
            context.close()

    def check(self, allowed: str | None = None) -> None:
        """Nobody has complained, but for what is allowed."""
        found = [each for each in self.complaints if not (allowed and re.search(allowed, each))]
        assert not found, found

    def open(self, url: str, *, path: str = "", dark: bool | None = None, phone: bool = False) -> Page:
        """A new page, once it is connected to its server."""
        page = self.page(url, dark=dark, phone=phone)
        page.goto(url + path)
        ready(page)
        return page

    def page(self, url: str, *, dark: bool | None = None, phone: bool = False) -> Page:
        """A new page that isn't there yet. `url` is of its server, or of one on the same machine.

        An empty page stays open beside it, so that all have one process, which has compiled their scripts.
        """
        if self._stays is None:
            self._stays = self.context.new_page()
            self._stays.goto("{0.scheme}://{0.netloc}/healthz".format(urlsplit(url)))
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("console", self._hear)
        if phone:
            page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        if dark is not None:
            page.emulate_media(color_scheme="dark" if dark else "light")
        return page

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.location.get('url')}: {message.text}")


def ready(page: Page) -> None:
    """Wait until a page's buttons work: its socket is connected."""
    page.wait_for_function(
        "() => window.socket && window.socket.connected && document.querySelector('#app main')"
        " && !document.getElementById('pd-early')"
    )


def shot(page: Page, name: str) -> None:
    """Keep a picture of a page as it is now, in a soak, or where PERDURE_SHOTS says (for docs). Else it only costs."""
    if SOAK or os.environ.get("PERDURE_SHOTS"):
        _shot(page, name)


def _shot(page: Page, name: str) -> None:
    folder = Path(os.environ.get("PERDURE_SHOTS") or ROOT / ".shots")
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", animations="disabled")


@contextmanager
def browser() -> Iterator[Chrome]:
    """A browser with an empty profile."""
    if CHROMIUM is None:
        pytest.fail(
            "there is no Chromium: apt-get install chromium (make test does where it may), or set PERDURE_CHROMIUM"
        )
    with sync_playwright() as playwright:
        started: Browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            context = started.new_context(
                viewport=DESK,  # type: ignore[arg-type]
                color_scheme="light",
                reduced_motion="reduce",
            )
            chrome = Chrome(context)
            yield chrome
            chrome.check()
        finally:
            started.close()


@contextmanager
def server(folder: Path, *command: str, database: str = "sqlite:///site.db", port: int = 0) -> Iterator[Site]:
    """`perdure dev MODULE...` or `perdure serve ...`, whatever `command` says, until the block ends.

    Args:
        folder: where it runs, and where modules are found.
        port: to have the same address again after a restart.
    """
    once = ["--no-reload"] if command[0] == "dev" else []  # a kill of the process is then one of the worker
    full = [*PERDURE, *command, *once, "--port", str(port)]
    with _process(folder, full, r"served at (http://[^/\s]+)", PERDURE_URL=database) as (url, started):
        yield Site(url, database, started)


@contextmanager
def program(folder: Path, script: str, told: str) -> Iterator[str]:
    """A script that serves something; the first group of the pattern `told` is the address that it prints."""
    with _process(folder, [sys.executable, script], told) as (url, _):
        yield url


@contextmanager
def _process(
    folder: Path, command: list[str], told: str, **environment: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    started = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    try:
        assert started.stderr is not None
        for line in started.stderr:
            lines.append(line)
            if match := re.search(told, line):
                # Nobody may have to wait because its words aren't read.
                threading.Thread(target=lines.extend, args=(started.stderr,), daemon=True).start()
                yield match[1], started
                break
        else:
            pytest.fail(f"it didn't start: {''.join(lines)}")
    finally:
        started.kill()
        started.communicate()
