"""Who waits for which run to end.

Runs that end on this worker are reported at once; for the others the store is asked (see lookout.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core.namespaces import short
from perdure.core.status import Status
from perdure.errors import PerdureError, UndecodableError
from perdure.runtime.lookout import Lookout
from perdure.runtime.soundness import damaged
from perdure.storage.chain import Damage
from perdure.storage.protocol import Store
from perdure.storage.records import RunRow

#: A run's status and last event, or why that can't be told.
Ended = tuple[Status, ev.Event | PerdureError]


class Results(Lookout[str, Ended]):
    """The futures of everyone who waits for a run's end, by run id.

    Args:
        within: what the stored ids begin with in the namespace that `store` shows.
    """

    others: list[Results]  # type: ignore[assignment]

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop, within: str = "") -> None:
        super().__init__(loop, self._ended_runs)
        self._store = store
        self._within = within

    def ended(self, id: str, status: Status, event: ev.Event) -> None:
        """A run has ended, and that is durable."""
        self.found(id, (status, event))
        for other in self.others:
            if id.startswith(other._within):
                other.ended(short(id), status, event)

    async def _ended_runs(self, ids: list[str]) -> Sequence[Ended | None]:
        """How these runs ended, None for those that haven't."""
        rows = await self._store.get(ids)
        over = [row for row in rows if row is not None and Status(row.status).final]
        events = await self._store.last_event([row.run for row in over]) if over else []
        found = {row.id: _end(row, newest) for row, newest in zip(over, events, strict=True)}
        return [found.get(id) for id in ids]


def _end(row: RunRow, newest: bytes | Damage) -> Ended:
    """How an ended run has ended. What can't be told must not keep those from their answer who wait for others."""
    return Status(row.status), last_of(row.id, newest)


def last_of(id: str, newest: bytes | Damage) -> ev.Event | PerdureError:
    """The last event of a run, or the error that says why it can't be told."""
    if isinstance(newest, Damage):
        return damaged(id, newest)
    try:
        return decode_event(newest)
    except UndecodableError as error:
        return error
