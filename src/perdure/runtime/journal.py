"""The journal: one group commit for the appends of many runs.

Runs hand in their appends; what is handed in during one turn of the event loop goes to the store as one batch, which
makes it durable with one fsync; of many runs in several, so that the store writes while the code of others goes on.
Each append's owner is called back with its result, in
the order handed in.

When the store can't be written (disk full, server away) nothing is lost: the batch is kept and offered
again, unchanged, until the store takes it. An append that did reach the disk the first time recognises
itself by its attempt number.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Protocol

from perdure.core.events import Event
from perdure.errors import StoreError, StoreUnavailableError
from perdure.runtime.observing import Observer
from perdure.storage.protocol import Store
from perdure.storage.records import Append, Appended, Stale

logger = logging.getLogger("perdure.journal")

RETRY_FIRST = 0.05  #: seconds before a refused batch is offered again, doubling up to
RETRY_MAX = 2.0

#: So many appends are handed over without waiting for the turn's end, so that disk and code work at once. When a
#: thousand runs waited for one commit, and the disk then for all of their next steps, both stood still in turn.
FLUSH_AT = 100

#: So many appends in a row that were handed in during each other's answers are offered without a turn of the loop in
#: between, which is 10 microseconds of a step's 160. Everything else in the loop waits for as long.
IN_A_ROW = 4

#: The events of an append, with their decoded values.
Events = list[tuple[Event, Any]]


class Owner(Protocol):
    """Whose append it is."""

    def appended(self, result: Appended | Stale, events: Events, append: Append) -> None:
        """What became of it."""
        ...


_Batch = list[tuple[Append, Owner, Events]]


class Journal:
    """Batches appends and sees them through.

    Args:
        observer: is told what became durable, and what the store refused.

    Attributes:
        trouble: what the store complained of last, None while it works.
        commits: batches made durable so far.
        hurried: what is submitted now needn't wait for others, and `hurry()` follows.
    """

    def __init__(
        self, store: Store, loop: asyncio.AbstractEventLoop, observer: Observer | None = None
    ) -> None:
        self._store = store
        self._loop = loop
        self._observer = observer
        self._pending: _Batch = []
        self._in_flight = 0
        self._delivering = False  # steps that are done at once come back from within
        self._in_row = False  # within _flush
        self._again = False  # _flush is to offer once more, or has been called to
        self._waiting_to_retry: dict[asyncio.TimerHandle, _Batch] = {}
        self._idle: asyncio.Future[None] | None = None
        self._closed = False
        self.trouble: str | None = None
        self.commits = 0
        self.hurried = False

    def submit(self, append: Append, owner: Owner, events: Events) -> None:
        """Make an append durable and then tell its owner what became of it."""
        if not self._pending and not self.hurried:
            self._loop.call_soon(self._flush)
        self._pending.append((append, owner, events))
        if len(self._pending) >= FLUSH_AT:
            self._flush()

    def hurry(self) -> None:
        """What was `hurried` has been submitted: offer it now. From within an answer: when that has been given."""
        self.hurried = False
        if not self._pending:
            return
        if self._in_row:
            self._again = True
        elif not (self._delivering or self._in_flight):
            self._flush()
        elif not self._again:
            self._again = True
            self._loop.call_soon(self._flush)

    async def drain(self) -> None:
        """Wait until everything submitted is settled, or the store refuses to take it."""
        while (self._pending or self._in_flight) and self.trouble is None:
            self._idle = self._loop.create_future()
            await self._idle

    def close(self) -> None:
        """Stop offering what the store refuses. The runs concerned go on elsewhere, from their history."""
        self._closed = True
        for handle in self._waiting_to_retry:
            handle.cancel()
        self._waiting_to_retry.clear()

    def _flush(self) -> None:
        """Offer what is pending, and what is handed in hurriedly by those who get the answer, some times."""
        self._in_row = True
        try:
            for _ in range(IN_A_ROW):
                self._again = False
                batch, self._pending = self._pending, []
                if batch:
                    self._offer(batch, RETRY_FIRST)
                if not self._again or self._in_flight:
                    break
        finally:
            self._in_row = False
            if self._again:
                self._loop.call_soon(self._flush)

    def _offer(self, batch: _Batch, pause: float) -> None:
        self._in_flight += 1
        begun = 0.0 if self._observer is None else perf_counter()
        # a comprehension has a frame of its own, which a lone append needn't wait for
        appends = [batch[0][0]] if len(batch) == 1 else [item[0] for item in batch]
        future = self._store.append(appends)
        if future.done():  # a lone append is quicker done than handed over
            self._settled(batch, future, pause, begun)
        else:
            future.add_done_callback(lambda settled: self._settled(batch, settled, pause, begun))

    def _settled(
        self, batch: _Batch, future: asyncio.Future[list[Appended | Stale]], pause: float, begun: float
    ) -> None:
        self._in_flight -= 1
        try:
            results = future.result()
        except asyncio.CancelledError:
            self._refused(batch, None, pause)
        except Exception as error:  # noqa: BLE001 - whatever a store raises
            self._refused(batch, error, pause)
        else:
            self.commits += 1
            if self._observer is not None:
                events = sum(len(append.events) for append, _, _ in batch)
                self._observer.committed(len(batch), events, perf_counter() - begun)
            if self.trouble is not None:
                logger.warning("the store takes writes again")
                self.trouble = None
            self._deliver(batch, results)
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _deliver(self, batch: _Batch, results: Sequence[Appended | Stale]) -> None:
        """Tell each owner. One garbage collection after a batch of turns is a third cheaper than one in each."""
        collecting = gc.isenabled()
        gc.disable()
        self._delivering = True
        try:
            for (append, owner, events), result in zip(batch, results, strict=True):
                try:
                    owner.appended(result, events, append)
                except Exception:  # the engine's own: the other runs of the batch mustn't suffer from it
                    logger.critical("run key %s made the engine fail", append.run, exc_info=True)
        finally:
            self._delivering = False
            if collecting:
                gc.enable()

    def _refused(self, batch: _Batch, error: BaseException | None, pause: float) -> None:
        if self._closed:
            return
        if error is not None and not isinstance(error, StoreError):
            logger.critical("the store failed in a way it shouldn't", exc_info=error)
        if self._observer is not None:
            self._observer.refused("append", error)
        if self.trouble is None:
            logger.error("the store takes no writes; runs wait, nothing is lost: %s", error)
        self.trouble = str(error)
        self._in_flight += 1  # still ours to settle

        # It can't be used: all wait. Or it refused what is in the batch: then the others needn't wait with that one.
        apart = isinstance(error, StoreError) and not isinstance(error, StoreUnavailableError)

        def again() -> None:
            self._waiting_to_retry.pop(handle)
            self._in_flight -= 1
            for part in [[item] for item in batch] if apart else [batch]:
                self._offer(part, min(pause * 2, RETRY_MAX))

        handle = self._loop.call_later(pause, again)
        self._waiting_to_retry[handle] = batch
