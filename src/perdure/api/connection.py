"""What an engine and its handles share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from perdure.api.runinfo import StrayMessage, stray
from perdure.codec.events import decode_event, unopened, view_event
from perdure.core import events as ev
from perdure.core.status import Status
from perdure.core.timeline import set_aside, unread
from perdure.core.tracing import TraceContext, current_trace
from perdure.errors import UndecodableError, UnknownRunError
from perdure.runtime.inquiry import Inquiry
from perdure.runtime.listeners import Listeners
from perdure.runtime.observing import Observer
from perdure.runtime.results import Results
from perdure.runtime.settings import Settings
from perdure.storage.changes import Change
from perdure.storage.protocol import Store
from perdure.storage.records import BlockCode, MailKind, RunRow

if TYPE_CHECKING:
    from perdure.runtime.travelling import Travelling
    from perdure.runtime.worker import Worker

_PAGE = 1000  # events fetched at once


class Connection:
    """What an engine and its handles share: the store, the waiters, and the worker if there is one."""

    def __init__(self, store: Store, results: Results, clock: Callable[[], float]) -> None:
        self.store = store
        self.results = results
        self.clock = clock
        self.inquiry: Inquiry  #: set when the engine is entered
        self.settings: Settings  #: set with it
        self.worker: Worker | None = None
        self.max_payload = 2 * 1024 * 1024
        self.observer: Observer | None = None  #: set when the engine is entered
        self.listeners = Listeners()
        self.within = ""  #: what the stored ids of its namespace begin with
        self.nudge_base: Callable[[], None] | None = None  #: of the engine, if this is one of its namespaces
        self.check: Callable[[], None] = lambda: None  #: raises if the engine can't be used here
        self._asked: list[tuple[str, asyncio.Future[RunRow | None]]] = []
        self._lookup: asyncio.Task[None] | None = None
        self._travelling: Travelling | None = None

    @property
    def travelling(self) -> Travelling:
        """What shows the past of runs. Few ask for it, so it is imported and made when somebody does."""
        if self._travelling is None:
            from perdure.runtime.travelling import Travelling

            self._travelling = Travelling(self.store, asyncio.get_running_loop(), self.settings)
        return self._travelling

    def here(self) -> TraceContext | None:
        """Where whoever asks something of the engine right now stands in a trace."""
        found = None if self.observer is None else self.observer.carried()
        return current_trace.get() if found is None else found

    def from_run(self, id: str, started: ev.RunStarted) -> TraceContext | None:
        """What a run keeps of one that it is made from."""
        return (
            None if self.observer is None else self.observer.carried((self.within + id, started), link=True)
        )

    async def row(self, id: str) -> RunRow:
        """A run's row. Raises UnknownRunError.

        What is asked for in one turn of the event loop is looked up together.
        """
        self.check()
        if not self._asked:
            self._lookup = asyncio.ensure_future(self._look_up())
        found: asyncio.Future[RunRow | None] = asyncio.get_running_loop().create_future()
        self._asked.append((id, found))
        row = await found
        if row is None:
            msg = f"no run has the id {id!r} in this database: look it up with `perdure ls`, or start it"
            raise UnknownRunError(msg, run_id=id)
        return row

    async def generation(self, id: str, number: int | None) -> RunRow:
        """The row of one generation of a run; None = the newest. Raises UnknownRunError."""
        newest = await self.row(id)
        if number is None or number == newest.generation:
            return newest
        row = await self.store.generation(id, number)
        if row is None:
            msg = f"run {id!r} has no generation {number}: it is in generation {newest.generation}, counted from 1"
            raise UnknownRunError(msg, run_id=id)
        return row

    async def _look_up(self) -> None:
        await asyncio.sleep(0)  # whoever else asks in this turn
        asked, self._asked = self._asked, []
        try:
            rows = await self.store.get([id for id, _ in asked])
        except BaseException as error:  # noqa: BLE001 - it is raised where it was asked
            for _, found in asked:
                if not found.done():
                    found.set_exception(error)
            return
        for (_, found), row in zip(asked, rows, strict=True):
            if not found.done():
                found.set_result(row)

    async def strays(
        self, row: RunRow, events: list[ev.Event]
    ) -> tuple[tuple[StrayMessage, ...], tuple[StrayMessage, ...]]:
        """The messages that a run never received, and those that it set aside, by its row and history."""
        aside = [stray(events[number - 1], number, why) for number, why in set_aside(events)]
        missed = [stray(events[number - 1], number) for number in unread(events)]
        if row.mail and row.ended_at is not None:
            kept = [item for item in await self.store.inbox(row.run) if item.kind == MailKind.MESSAGE]
            missed += [stray(decode_event(item.data)) for item in kept]
        return tuple(missed), tuple(aside)

    async def readable(self, row: RunRow) -> list[ev.Event]:
        """A run's events, as far as they can be read: whoever looks at a damaged run is to see the rest of it."""
        events: list[ev.Event] = []
        if row.block_code != BlockCode.HISTORY:  # what its events say together isn't what happened
            with contextlib.suppress(UndecodableError):
                async for event in self.history(row.run):
                    events.append(event)  # noqa: PERF401 - what was read before an error counts
        return events

    async def history(self, run: int, *, after: int = 0) -> AsyncIterator[ev.Event]:
        """A run's events behind the one of this number, in order."""
        async for event in self.shown(run, after=after):
            if isinstance(event, ev.Sealed):
                raise unopened(event)
            yield event

    async def shown(self, run: int, *, after: int = 0) -> AsyncIterator[ev.Shown]:
        """The same for people who look: of what is sealed its head."""
        while True:
            page = await self.store.events(run, after=after, limit=_PAGE)
            for seq, data in page:
                after = seq
                yield view_event(data)
            if len(page) < _PAGE:
                return

    async def held_request(self, row: RunRow) -> ev.CancelRequested | None:
        """The cancellation that waits in the inbox of a blocked run."""
        if row.mail and row.status == Status.BLOCKED:
            for item in await self.store.inbox(row.run):
                with contextlib.suppress(UndecodableError):  # that may be why it is blocked
                    if isinstance(event := decode_event(item.data), ev.CancelRequested):
                        return event
        return None

    async def close(self, error: BaseException) -> None:
        """Nobody will be told anything any more: everyone who waits gets `error`."""
        self.listeners.all_changed()
        self.results.close(error)
        self.inquiry.close(error)
        if self._travelling is not None:
            await self._travelling.close()

    def nudge(self) -> None:
        """What was just written may concern runs driven here."""
        if self.nudge_base is not None:
            self.nudge_base()
            return
        self.changed(Change.ANYTHING)

    def changed(self, change: Change) -> None:
        """Somebody has changed something: look for what may follow from that."""
        if self.worker is not None:
            self.worker.changed(change)
        self.results.check_soon()
        self.inquiry.check_soon()
        self.listeners.all_changed()
