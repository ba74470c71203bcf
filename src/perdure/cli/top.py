"""`perdure top`: what goes on in a database, live in a terminal, or once for scripts.

It only reads. When the database can't be reached it says so, keeps showing what it saw last, and tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.live import Live

from perdure.api.watch import Look, Watch
from perdure.cli.database import UrlOption, reader
from perdure.cli.output import out, print_json
from perdure.cli.topsections import SECTIONS, SORTS, Showing
from perdure.cli.topview import screen
from perdure.cli.trouble import Trouble
from perdure.errors import PerdureError
from perdure.storage.urls import shown_url

_EVERY_MIN, _EVERY_MAX = 0.5, 60.0
_ESCAPE = "\x1b"
_SEQUENCE = re.compile(r"\x1b[\[O][0-9;?]*[A-Za-z~]")  # what an arrow sends, say


def top(
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=_EVERY_MIN, help="How often it looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, print it, and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Look once, as JSON.")] = False,
    sort: Annotated[
        str, typer.Option("--sort", metavar="|".join(SORTS), help="What comes first in a section.")
    ] = SORTS[0],
    only: Annotated[str, typer.Option("--only", metavar="TEXT", help="Only names with this text.")] = "",
    url: UrlOption = None,
) -> None:
    """Watch workers, queues, workflows, slow steps, what is stuck and why, and spending."""
    if sort not in SORTS:
        raise Trouble(f"--sort {sort!r}: there are {', '.join(SORTS)}.")
    engine = reader(url)
    showing = Showing(shown_url(engine.url), every, sort, only)
    if not (once or as_json) and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise Trouble("`perdure top` needs a terminal. For scripts there are --once and --json.")

    async def look() -> None:
        async with engine:
            watch = engine.watch()
            if as_json:
                print_json(facts(await watch.look()))
            elif once:
                console = out()
                seen = await watch.look()
                console.print(screen(seen, showing, console.width, 1000, seen.at))
            else:
                logging.getLogger().addHandler(
                    logging.NullHandler()
                )  # warnings would be written into the picture
                await _live(watch, showing)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(look())


def facts(look: Look) -> dict[str, Any]:
    """A look as plain data."""
    plain: dict[str, Any] = msgspec.to_builtins(look, enc_hook=str)
    for pace, workflow in zip(look.workflows, plain["workflows"], strict=True):
        workflow["live"] = pace.live
    return plain


async def _live(watch: Watch, showing: Showing) -> None:
    """Draw until somebody leaves."""
    touched, leave = asyncio.Event(), asyncio.Event()

    def key(text: str) -> None:
        if press(showing, text):
            leave.set()
        touched.set()

    seen: Look | None = None
    looking: asyncio.Task[Look] | None = None
    due = 0.0
    clock = asyncio.get_running_loop().time
    with _keys(key), Live(screen=True, auto_refresh=False, console=out(), vertical_overflow="crop") as live:
        while not leave.is_set():
            if looking is not None and looking.done():
                try:
                    seen, showing.trouble = looking.result(), ""
                except PerdureError as error:
                    showing.trouble = str(error)
                looking, due = None, clock() + showing.every
            if looking is None and not showing.paused and clock() >= due:
                looking = asyncio.create_task(watch.look())
                looking.add_done_callback(lambda _: touched.set())
            size = live.console.size
            live.update(screen(seen, showing, size.width, size.height, datetime.now(UTC)), refresh=True)
            touched.clear()
            with contextlib.suppress(TimeoutError):
                idle = showing.paused or looking is not None  # which is over when somebody touches it
                await asyncio.wait_for(touched.wait(), 1.0 if idle else min(1.0, max(0.0, due - clock())))
    if looking is not None:
        looking.cancel()
        await asyncio.wait([looking])


def press(showing: Showing, text: str) -> bool:
    """What a key does; True if it is the one for leaving."""
    if text == "\x03":
        return True
    if showing.typing:
        _type(showing, text)
        return False
    match text:
        case "q" | "Q":
            return True
        case "s":
            showing.sort = SORTS[(SORTS.index(showing.sort) + 1) % len(SORTS)]
        case "/" | "f":
            showing.typing, showing.filter = True, ""
        case "p" | " ":
            showing.paused = not showing.paused
        case "\t":
            views = (None, *SECTIONS)
            showing.alone = views[(views.index(showing.alone) + 1) % len(views)]
        case "+":
            showing.every = min(_EVERY_MAX, showing.every * 2)
        case "-":
            showing.every = max(_EVERY_MIN, showing.every / 2)
        case "h" | "?":
            showing.helping = not showing.helping
        case "\x1b":
            showing.filter, showing.alone, showing.helping = "", None, False
        case _:
            pass
    return False


def _type(showing: Showing, text: str) -> None:
    if text in ("\r", "\n"):
        showing.typing = False
    elif text == _ESCAPE:
        showing.typing, showing.filter = False, ""
    elif text in ("\x7f", "\b"):
        showing.filter = showing.filter[:-1]
    elif text.isprintable():
        showing.filter += text


@contextlib.contextmanager
def _keys(pressed: Callable[[str], None]) -> Generator[None, None, None]:
    """Call for each key while this lasts, without waiting for Enter. Where that can't be done, Ctrl-C leaves."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def read() -> None:
        text = os.read(descriptor, 64).decode(errors="ignore")
        if not text:
            pressed("q")  # the terminal is gone
        for char in _SEQUENCE.sub("", text):
            pressed(char)

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
