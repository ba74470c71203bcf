"""Reading a history as it grows: what a page that shows a run, or a tail on the command line, is fed by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from perdure.api.connection import Connection
from perdure.codec.events import view_event
from perdure.core import events as ev
from perdure.core.status import Status

_PAGE = 500  # events fetched at once


async def follow(
    connection: Connection, id: str, *, generation: int | None = None, after: int = 0
) -> AsyncIterator[tuple[int, ev.Event]]:
    """A run's events with their numbers, those to come included, until it has ended and all of them are told.

    Args:
        generation: which run of this id, counted from 1; the newest by default.
        after: start behind the event with this number.

    Raises:
        UnknownRunError: no run has this id, or this generation.
        UndecodableError: the next event can't be read.
        EngineClosedError: the engine is closed.
    """
    listeners = connection.listeners
    row = await connection.generation(id, generation)
    while True:
        connection.check()
        more = listeners.expect(id)
        try:
            # The row first: a run that has ended by then has all of its events.
            row = await connection.generation(id, row.generation)
            ended = Status(row.status).final
            page = await connection.store.events(row.run, after=after, limit=_PAGE)
            for seq, data in page:
                after = seq
                yield seq, cast(ev.Event, view_event(data))
            if not page:
                if ended:
                    return
                await listeners.wait(id, more)
        finally:
            listeners.forget(id, more)
