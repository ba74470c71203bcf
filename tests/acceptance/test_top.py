"""`perdure top` in a terminal of its own: what it shows, what keys do, and that it leaves the terminal as it was."""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rich", reason="the command line's extra isn't installed")
pty = pytest.importorskip("pty", reason="there are no pseudo terminals here")

pytestmark = pytest.mark.acceptance

PERDURE = [sys.executable, "-c", "from perdure.cli import main; main()"]

FLOWS = """
import asyncio
from perdure import step, workflow

@step
async def crawl(n: int) -> int:
    await asyncio.sleep(600)
    return n

@workflow
async def patient(n: int) -> int:
    return await crawl(n)
"""


class Terminal:
    """`perdure top`, and what its screen has told so far."""

    def __init__(self, url: str, rows: int = 24, columns: int = 80) -> None:
        import fcntl
        import termios

        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [*PERDURE, "top", "--every", "0.5", "--url", url],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        self.raw = ""

    def press(self, keys: str) -> None:
        self.raw = ""
        os.write(self.ours, keys.encode())

    def shows(self, wanted: str, seconds: float = 60.0) -> None:
        """Wait until the screen has told this."""
        until = time.monotonic() + seconds
        while not re.search(wanted, self.text()):
            assert time.monotonic() < until, f"no {wanted!r} in {self.text()[-3000:]}"
            if select.select([self.ours], [], [], 0.2)[0]:
                self.raw += os.read(self.ours, 65536).decode(errors="replace")

    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.raw)

    def ends(self, seconds: float = 60.0) -> int:
        """Wait for its end, reading what it still writes; its exit code."""
        until = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < until:
            if select.select([self.ours], [], [], 0.1)[0]:
                self.raw += os.read(self.ours, 65536).decode(errors="replace")
        return self.process.wait(1)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A database with a worker that has a slow step."""
    (tmp_path / "slowly.py").write_text(FLOWS)
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    worker = subprocess.Popen(
        [*PERDURE, "worker", "slowly", "--name", "w-one", "--url", url],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    start = "import perdure, asyncio, slowly\n"
    start += f"async def main():\n    async with perdure.Engine({url!r}, worker=False) as engine:\n"
    start += "        await engine.start(slowly.patient(1), id='r-1')\n"
    subprocess.run(
        [sys.executable, "-c", f"{start}asyncio.run(main())"], cwd=tmp_path, check=True, timeout=60
    )
    yield url
    worker.send_signal(signal.SIGKILL)
    worker.wait(30)


def test_it_is_a_live_view_with_keys(url: str) -> None:
    import termios

    terminal = Terminal(url)
    try:
        terminal.shows("slowly.patient")
        terminal.shows("w-one")
        terminal.shows(r"slowly\.crawl")
        terminal.press("s")
        terminal.shows("sort: rate")
        terminal.press("/crawl")
        terminal.shows("only names with: crawl")
        terminal.press("\r")
        terminal.shows("filter: crawl")
        terminal.press("p")
        terminal.shows("PAUSED")
        terminal.press("\x1bOA")  # an arrow is no Escape
        terminal.press("?")
        terminal.shows("hold the picture")
        terminal.press("q")
        assert terminal.ends() == 0
        assert "\x1b[?1049l" in terminal.raw  # the screen from before is back
        assert termios.tcgetattr(terminal.theirs) == terminal.before
    finally:
        terminal.close()


def test_ctrl_c_leaves(url: str) -> None:
    import termios

    terminal = Terminal(url, 10, 40)
    try:
        terminal.shows("perdure top")
        terminal.shows("slowly")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ends() == 0
        assert termios.tcgetattr(terminal.theirs) == terminal.before
    finally:
        terminal.close()
