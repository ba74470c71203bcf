"""`perdure restore`: going on from an earlier state of a database, so that nothing is done twice silently.

What was recorded since is gone, but was done: steps that ran then run again, with the same idempotency keys. So
whatever is live is held until a person has looked, and each history tells that it was set back. Workers of before can't
write any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import typer

from perdure.api.engine import Engine
from perdure.cli.backup import path_of, proven, whole
from perdure.cli.database import UrlOption, chosen, reader, url_again
from perdure.cli.output import tell
from perdure.cli.trouble import Trouble
from perdure.codec.sealing.envelope import is_sealed
from perdure.core.errands import step_of
from perdure.core.status import Status
from perdure.storage.sqlite.backup import copy_file
from perdure.storage.sqlite.backup import fence as fence_file
from perdure.storage.urls import shown_url

logger = logging.getLogger("perdure.restore")

#: Runs that are held with one commit.
_AT_ONCE = 500

_LIVE = [status for status in Status if not status.final]


def restore(
    file: Annotated[
        Path | None,
        typer.Argument(help="What `perdure backup` has made.", metavar="[FILE]", show_default=False),
    ] = None,
    in_place: Annotated[
        bool,
        typer.Option("--in-place", help="The database at --url was set back already, by other means."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Let the live runs go on at once; else they are paused.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """Make a database out of a copy, so that workers can go on from it. The copy stays as it is.

    With --in-place the database was restored already: from a dump, to a point in time, by a snapshot. Workers of
    before can't write into it. Live runs and schedules are paused, since nobody knows what they did after the copy
    was made: they would do it again.
    """
    where = chosen(url)
    if in_place == (file is not None):
        raise Trouble(
            "Give the copy to restore from, or --in-place for a database that was set back by other means; not both."
        )
    if file is not None:
        _from_copy(file, where, resume)
    else:
        reader(where)  # says so if there is no such database
        _fence(where)
        _tell(
            asyncio.run(_held(where, "its database was set back to an earlier state", resume)), where, resume
        )


def _from_copy(file: Path, where: str, resume: bool) -> None:
    target = path_of(
        where,
        "Restore PostgreSQL by its own means, then fence it with `perdure restore --in-place`: see "
        "docs/guide/backup.md.",
    )
    if not file.exists():
        raise Trouble(f"There is no file {file}.")
    with whole(target) as part:
        copy_file(file, part)
        runs, _ = proven(part)
        fence_file(part, time.time())
        reason = f"it was restored from {file.name}"
        held = asyncio.run(_held(f"sqlite:///{part.absolute()}", reason, resume))
    tell(f"{target}: {runs} runs.")
    _tell(held, where, resume)


def _fence(where: str) -> None:
    if where.startswith("sqlite:"):
        fence_file(Path(unquote(where.removeprefix("sqlite:///"))), time.time())
        return
    from perdure.storage.postgres.fencing import fence

    fence(where, time.time())


class _Held:
    """What was held: how many runs, how many attempts of steps in other queues, which schedules."""

    def __init__(self) -> None:
        self.runs = self.errands = 0
        self.schedules: list[str] = []


async def _held(where: str, reason: str, resume: bool) -> _Held:
    """Pause what is live in a database that nobody drives; to let it go on, with a history that tells, if wanted."""
    held = _Held()
    async with Engine(where, worker=False) as engine:
        live = [(run.id, run.workflow) async for run in engine.runs(status=_LIVE, errands=True)]
        await _refuse_sealed(engine, [id for id, _ in live])
        for first in range(0, len(live), _AT_ONCE):
            some = live[first : first + _AT_ONCE]
            await _all(engine.get(id).pause(reason) for id, _ in some)
            if resume:
                await _all(engine.get(id).resume() for id, _ in some)
        held.errands = sum(step_of(workflow) is not None for _, workflow in live)
        held.runs = len(live) - held.errands
        for schedule in await engine.schedules.list():
            if not schedule.paused and not resume:
                await engine.schedules.get(schedule.name).pause(reason)
                held.schedules.append(schedule.name)
    logger.warning("%s: %d live runs; %s", shown_url(where), held.runs, reason)
    return held


async def _refuse_sealed(engine: Engine, ids: Sequence[str]) -> None:
    """What is written here to runs that are sealed must be sealed, too: workers that insist on it would refuse them.

    Raises:
        Trouble: this process hasn't got their keys.
    """
    store = engine._open().store
    for first in range(0, len(ids), _AT_ONCE):
        rows = await store.get(ids[first : first + _AT_ONCE])
        for newest in await store.last_event([row.run for row in rows if row is not None]):
            if isinstance(newest, bytes) and is_sealed(newest):
                raise Trouble(
                    "The runs in it are sealed, and nothing here opens them: set PERDURE_KEYS to the keys that the "
                    "workers have, and say it again. No run was touched."
                )


async def _all(deeds: Iterable[Any]) -> None:
    await asyncio.gather(*deeds)


def _tell(held: _Held, where: str, resume: bool) -> None:
    again = url_again(where)
    others = f", and {held.errands} attempts of their steps in other queues" if held.errands else ""
    if held.runs and resume:
        tell(
            f"{held.runs} live runs{others} go on once workers are there. What they did since the copy was made they "
            "do again, with the same idempotency keys; their histories tell of it."
        )
    elif held.runs:
        tell(
            f"{held.runs} live runs are paused{others}: what they did since the copy was made they will do again, "
            f"with the same idempotency keys. Look (`perdure ls --status paused{again}`), then let each go on: "
            f"perdure resume ID{again}"
        )
    if held.schedules:
        tell(
            f"Schedules are paused, since runs that they started since would be started again: "
            f"{', '.join(held.schedules)}. Let each go on: perdure schedule resume NAME{again}"
        )
