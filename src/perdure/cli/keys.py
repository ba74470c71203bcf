"""`perdure keys` and `perdure erase`: the keys with which payloads are encrypted."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from perdure.api.engine import Engine
from perdure.api.sealing import sealed_in
from perdure.cli.database import UrlOption, reader
from perdure.cli.output import err, out, print_json, printable, tell
from perdure.cli.trouble import Trouble
from perdure.codec.sealing.encryption import DATA_KEY
from perdure.codec.sealing.keys import KEYS, new_key
from perdure.storage.blobs.config import ENVIRONMENT
from perdure.storage.sealing import SealedStore
from perdure.storage.sealing.rotation import BLOBS, LOST, Progress, count_keys
from perdure.storage.sealing.rotation import rotate as rotate_keys

#: What is told of what counts in the place of a key.
_TOLD = {
    "": "in the clear",
    BLOBS: f"with keys that can't be told from here: set {ENVIRONMENT} to where the blobs are",
    LOST: "missing or damaged",
}

keys = typer.Typer(
    name="keys",
    no_args_is_help=True,
    help=f"Make and rotate the keys of encryption, which are in {KEYS}.",
)


@keys.command()
def new(
    id: Annotated[
        str | None,
        typer.Option("--id", help="What it is called; by default by the date.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Add it to this file of keys, as the newest.", show_default=False),
    ] = None,
) -> None:
    """Make a key. Without --file it is printed: put it last in PERDURE_KEYS."""
    key = new_key(id)
    if file is None:
        typer.echo(key)
        return
    there = file.exists()
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "a", encoding="ascii") as target:
        target.write(f"{key}\n")
    more = (
        ""
        if there
        else f" Use it with {KEYS}=@{file}, and keep a copy elsewhere: without it nothing can be read."
    )
    tell(f"{file}: the newest key is {key.partition(':')[0]}.{more}")


@keys.command("list")
def ls(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    url: UrlOption = None,
) -> None:
    """Show which key seals how many events and other payloads. Needs no key.

    Reads the whole database, and all blobs, if PERDURE_BLOBS says where they are.
    """

    async def look() -> tuple[dict[str, int], tuple[str, ...]]:
        async with reader(url) as engine:
            sealed = sealed_in(engine.store)
            encryption = None if sealed is None else sealed.vault.encryption
            return dict(
                await count_keys(engine.store if sealed is None else sealed.below)
            ), () if encryption is None else encryption.keys.ids

    counted, ring = asyncio.run(look())
    for id in ring:
        counted.setdefault(id, 0)
    if as_json:
        print_json({"keys": counted, "newest": ring[-1] if ring else None, "here": list(ring)})
        return
    of_subjects = sum(count for id, count in counted.items() if id.startswith(DATA_KEY))
    grid = Table.grid(padding=(0, 2))
    for id in sorted(one for one in counted if not one.startswith(DATA_KEY)):
        told = _TOLD.get(id, "newest" if ring and id == ring[-1] else "")
        told += " (not in the key ring here)" if id not in _TOLD and id not in ring else ""
        grid.add_row(
            Text(printable(id or "-")), Text(f"{counted[id]:,}", justify="right"), Text(told.strip())
        )
    if of_subjects:
        grid.add_row(
            Text("of subjects"), Text(f"{of_subjects:,}", justify="right"), Text("keys in the database")
        )
    out().print(grid)


@keys.command()
def rotate(url: UrlOption = None) -> None:
    """Seal everything with the newest key, while workers go on. They must have that key already.

    Whatever stops it: run it again, and it goes on.
    """

    def progress(now: Progress) -> None:
        if err().is_terminal:
            err().print(f"{now.looked:,} looked at, {now.sealed:,} sealed anew", end="\r")

    async def do() -> tuple[Progress, str]:
        async with reader(url) as engine:
            store = _sealed(engine)
            assert store.vault.encryption is not None
            return await rotate_keys(store.below, store.vault, progress), store.vault.encryption.keys.newest

    done, newest = asyncio.run(do())
    tell(
        f"{done.sealed:,} of {done.looked:,} events and other payloads, and {done.wrapped:,} keys of subjects, are "
        f"sealed anew with {newest}."
    )
    left = _left(done)
    if left:
        raise Trouble(" ".join(left))


def _left(done: Progress) -> list[str]:
    """What a rotation had to leave as it was, and what to do about it."""
    told: list[str] = []
    closed = {id: count for id, count in sorted(done.closed.items()) if id != BLOBS}
    if closed:
        which = ", ".join(f"{count:,} with {id or 'no key'}" for id, count in closed.items())
        told.append(
            f"Some couldn't be opened, and stay as they are: {which}. Run it again with those keys in {KEYS}."
        )
    if done.closed[BLOBS]:
        told.append(
            f"{done.closed[BLOBS]:,} events lie in a blob store, and keep their keys: set {ENVIRONMENT} to where "
            "that is, and run it again."
        )
    if done.lost:
        told.append(
            f"{done.lost:,} events are blobs that are missing or damaged, and stay as they are. The first: "
            f"{done.why_lost}. Bring them back, and run it again."
        )
    return told


def erase(
    subject: Annotated[
        str | None,
        typer.Option("--subject", help="Whose data, as runs were started with it.", show_default=False),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Of a run that has a key of its own.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    url: UrlOption = None,
) -> None:
    """Destroy the key of a subject's data, or of one run. It can't be taken back."""
    if (subject is None) == (run is None):
        raise Trouble("Say what to erase: either --subject or --run.")
    whose = f"the subject {subject}" if subject is not None else f"the run {run}"
    if not yes:
        typer.confirm(f"Destroy the key of {whose}? Nobody will ever read that data again.", abort=True)

    async def do() -> tuple[int, tuple[str, ...]]:
        async with reader(url) as engine:
            _sealed(engine)
            done = await engine.erase(subject=subject, run=run)
            return done.keys, done.terminated

    count, terminated = asyncio.run(do())
    if not count:
        tell(f"There is no key of {whose}: nothing was started for it, or it was erased before.")
        return
    ended = f" {len(terminated)} live runs of it were terminated." if terminated else ""
    tell(f"The key of {whose} is destroyed: histories stay, without their data.{ended}")


def _sealed(engine: Engine) -> SealedStore:
    store = sealed_in(engine.store)
    if store is None:
        raise Trouble(f"There are no keys: set {KEYS}, the newest key last. `perdure keys new` makes one.")
    return store
