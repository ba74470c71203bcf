"""`perdure backup`: copies of a SQLite database. restoring.py goes on from one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

import typer

from perdure.cli.database import UrlOption, chosen, reader
from perdure.cli.output import err, tell
from perdure.cli.trouble import Trouble
from perdure.runtime.checking import Check
from perdure.storage.sqlite.auditor import SqliteAuditor
from perdure.storage.sqlite.backup import BESIDE, copy_file, sync


def backup(
    file: Annotated[Path, typer.Argument(help="The copy; mustn't exist yet.", metavar="FILE")],
    url: UrlOption = None,
) -> None:
    """Copy a SQLite database, while workers go on with it. The copy is looked through before it gets its name."""
    reader(url)  # says so if there is no such database
    source = path_of(chosen(url), "Back up PostgreSQL with its own means: see docs/guide/backup.md.")
    with whole(file) as part:
        copy_file(source, part, _progress())
        runs, events = proven(part)
    tell(f"{file}: {runs} runs with {events} events, all sound. To go on from it: perdure restore {file}")


def path_of(url: str, otherwise: str) -> Path:
    """The file that a url names; `otherwise` says what to do where it names none."""
    prefix = "sqlite:///"
    if not url.startswith(prefix):
        raise Trouble(f"{url} isn't a SQLite file. {otherwise}")
    return Path(unquote(url[len(prefix) :]))


@contextlib.contextmanager
def whole(file: Path) -> Generator[Path, None, None]:
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


def proven(part: Path) -> tuple[int, int]:
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


def _progress() -> Callable[[float], None] | None:
    if not err().is_terminal:
        return None
    return lambda share: err().print(f"{share:.0%} ...", end="\r")
