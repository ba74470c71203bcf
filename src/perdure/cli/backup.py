"""`perdure backup` and `perdure restore`: copies of a SQLite database, and going on from one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

import typer

from perdure.api.engine import Engine
from perdure.cli.database import UrlOption, chosen, reader
from perdure.cli.output import err, tell
from perdure.cli.trouble import Trouble
from perdure.runtime.checking import Check
from perdure.storage.sqlite.auditor import SqliteAuditor
from perdure.storage.sqlite.backup import BESIDE, copy_file, fence, sync

#: Runs that are paused with one commit.
_AT_ONCE = 500


def backup(
    file: Annotated[Path, typer.Argument(help="The copy; mustn't exist yet.", metavar="FILE")],
    url: UrlOption = None,
) -> None:
    """Copy a SQLite database, while workers go on with it. The copy is looked through before it gets its name."""
    reader(url)  # says so if there is no such database
    source = _path(chosen(url), "Back up PostgreSQL with its own means: see docs/guide/backup.md.")
    with _whole(file) as part:
        copy_file(source, part, _progress())
        runs, events = _proven(part)
    tell(f"{file}: {runs} runs with {events} events, all sound. To go on from it: perdure restore {file}")


def restore(
    file: Annotated[Path, typer.Argument(help="What `perdure backup` has made.", metavar="FILE")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Let the live runs go on at once; else they are paused.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """Make a database out of a copy, so that workers can go on from it. The copy stays as it is.

    Workers of the database that it replaces can't write into it. Live runs are paused, since nobody knows what they
    did after the copy was made: they would do it again.
    """
    target = _path(chosen(url), "Only SQLite databases can be made from a file: see docs/guide/backup.md.")
    if not file.exists():
        raise Trouble(f"There is no file {file}.")
    with _whole(target) as part:
        copy_file(file, part)
        runs, _ = _proven(part)
        fence(part, time.time())
        live = asyncio.run(_held(part.absolute(), f"it was restored from {file.name}")) if not resume else 0
    tell(f"{target}: {runs} runs.")
    if live:
        tell(
            f"{live} live ones are paused: what they did since the copy was made they will do again, with the same "
            "idempotency keys. Look (`perdure ls --status paused`), then let each go on: perdure resume ID"
        )


def _path(url: str, otherwise: str) -> Path:
    prefix = "sqlite:///"
    if not url.startswith(prefix):
        raise Trouble(f"{url} isn't a SQLite file. {otherwise}")
    return Path(unquote(url[len(prefix) :]))


@contextlib.contextmanager
def _whole(file: Path) -> Generator[Path, None, None]:
    """A path beside a file that isn't there yet. What is made there gets the file's name, if all goes well."""
    for suffix in ("", *BESIDE):
        if (taken := file.with_name(file.name + suffix)).exists():
            raise Trouble(
                f"{taken} exists already, and isn't overwritten. Move it away, or give another name."
            )
    part = file.with_name(f"{file.name}.part")
    try:
        yield part
        for suffix in BESIDE:
            part.with_name(part.name + suffix).unlink(missing_ok=True)
        sync(part)
        os.rename(part, file)
        sync(file.absolute().parent)
    finally:
        for suffix in ("", *BESIDE):
            with contextlib.suppress(OSError):
                part.with_name(part.name + suffix).unlink(missing_ok=True)


def _proven(part: Path) -> tuple[int, int]:
    """How many runs and events there are; all of their histories have been compared with their checksums."""
    auditor = SqliteAuditor(part)
    try:
        look = Check(auditor, None)
        found = list(look.everything(files=False))
    finally:
        auditor.close()
    for finding in found:
        tell(f"Damaged in the original, too: {finding.run or ''} {finding.text}")
    return look.counts.runs, look.counts.events


async def _held(part: Path, reason: str) -> int:
    """Pause all live runs of a database that nobody drives. Returns how many there are."""
    held = 0
    async with Engine(f"sqlite:///{part}", worker=False) as engine:
        live = [run.id async for run in engine.runs() if not run.status.final]
        for first in range(0, len(live), _AT_ONCE):
            some = live[first : first + _AT_ONCE]
            await asyncio.gather(*(engine.get(id).pause(reason) for id in some))
            held += len(some)
    return held


def _progress() -> Callable[[float], None] | None:
    if not err().is_terminal:
        return None
    return lambda share: err().print(f"{share:.0%} ...", end="\r")
