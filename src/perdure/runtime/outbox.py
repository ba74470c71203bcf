"""What steps put into streams: collected from tasks and threads, and handed to the store in batches.

A step emits without waiting. Everything emitted in one turn of the event loop, by all steps, goes to the store
as one batch; what is emitted while a batch is on its way makes up the next one. An attempt's outcome is recorded
only after all of its items are durable, so no reader sees a step end before its last item.

The store takes items only from whoever drives the run now. A worker that lost a run learns it there: from then on
`emit` raises in its steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from perdure.errors import StaleWorkerError, StoreError
from perdure.runtime.listeners import Listeners
from perdure.runtime.stepcontext import StepInfo
from perdure.storage.protocol import Store
from perdure.storage.publications import Publication, keyed_id, op_id
from perdure.storage.streams import StepItems

logger = logging.getLogger("perdure.outbox")

RETRY_FIRST = 0.05  #: seconds before a refused batch is offered again, doubling up to
RETRY_MAX = 2.0
#: Items offered to the store at a time.
BATCH_MAX = 5000


class Driven(Protocol):
    """The run whose step emits."""

    @property
    def run(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def streams_of(self) -> int | None: ...


class Outlet:
    """What one attempt has emitted.

    Args:
        driven: its run, as it is driven here.
        info: the attempt.
        max_payload: largest encoded item in bytes.

    Attributes:
        closed: the attempt is over, what it still emits isn't kept.
        publications: what is published with its result.
    """

    __slots__ = (
        "_drained", "_outbox", "closed", "driven", "info", "logged", "max_payload", "outstanding", "publications",
        "refused",
    )  # fmt: skip

    def __init__(self, outbox: Outbox, driven: Driven, info: StepInfo, max_payload: int) -> None:
        self._outbox = outbox
        self._drained: asyncio.Future[None] | None = None
        self.driven = driven
        self.info = info
        self.max_payload = max_payload
        self.outstanding = 0
        self.logged = 0
        self.refused = False
        self.closed = False
        self.publications: list[Publication] | None = None

    def emit(self, stream: str, data: bytes) -> None:
        """Put an encoded item into a stream. From any thread.

        Raises:
            StaleWorkerError: the store refused earlier items, since another worker drives the run now.
        """
        if self.refused:
            msg = (
                f"step {self.info.step_id!r} of run {self.info.run_id!r} emitted, but another worker drives that "
                "run now: nothing that this attempt does counts any more. Let the step end"
            )
            raise StaleWorkerError(msg)
        self._outbox.put(self, stream, data)

    def publish(self, name: str, key: str | None, data: bytes) -> None:
        """Publish something with the outcome of the attempt, if that is a result. From any thread."""
        if self.publications is None:
            self.publications = []
        if not self.closed:
            op = f"{self.info.step_id}/publish:{len(self.publications) + 1}"
            id = op_id(self.info.acts_as, self.info.keys, op) if key is None else keyed_id(name, key)
            self.publications.append(Publication(id, name, key, data, 0.0))

    async def see_through(self) -> None:
        """The body is over: let what it has emitted become durable (or refused for good) before its outcome."""
        self._outbox.close_outlet(self)
        if self.outstanding and not self.info.cancelled:  # else nobody waits for its outcome
            self._drained = asyncio.get_running_loop().create_future()
            with contextlib.suppress(asyncio.CancelledError):
                await self._drained

    def settled(self, count: int, taken: bool) -> None:
        """So many items are durable, or were refused."""
        self.refused = self.refused or not taken
        self.outstanding -= count
        if self.outstanding == 0 and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)


class Outbox:
    """Hands the items of one worker's steps to the store.

    Args:
        listeners: told of every run that has new items.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        listeners: Listeners,
    ) -> None:
        self._store = store
        self._loop = loop
        self._clock = clock
        self._listeners = listeners
        self._lock = threading.Lock()
        self._pending: list[tuple[Outlet, str, bytes]] = []
        self._called = False  # a flush is coming
        self._flushing: asyncio.Task[None] | None = None

    def put(self, outlet: Outlet, stream: str, data: bytes) -> None:
        """An item, from any thread. That of an attempt which is over is dropped."""
        with self._lock:
            if outlet.closed or outlet.info.cancelled:
                return
            outlet.outstanding += 1
            self._pending.append((outlet, stream, data))
            called, self._called = self._called, True
        if not called:
            self._loop.call_soon_threadsafe(self._flush_soon)

    def close_outlet(self, outlet: Outlet) -> None:
        """Take nothing more from it: a thread that nobody waits for may go on emitting."""
        with self._lock:
            outlet.closed = True

    async def close(self) -> None:
        """See through what was emitted so far, unless the store refuses to take it."""
        if self._flushing is None:
            self._flush_soon()
        if self._flushing is not None:
            await asyncio.wait([self._flushing], timeout=1.0)
        if self._flushing is not None:
            self._flushing.cancel()

    def _flush_soon(self) -> None:
        if self._flushing is None and self._pending:
            self._flushing = self._loop.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while True:
                with self._lock:
                    batch, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
                    self._called = bool(batch)
                if not batch:
                    return
                await self._offer(batch)
        finally:
            self._flushing = None

    async def _offer(self, batch: Sequence[tuple[Outlet, str, bytes]]) -> None:
        groups = _grouped(batch)
        now = self._clock()
        items = [
            StepItems(
                outlet.driven.run,
                outlet.driven.epoch,
                outlet.info.step_id,
                outlet.info.attempt,
                stream,
                data,
                now,
                outlet.driven.streams_of,
            )
            for outlet, stream, data in groups
        ]
        answers = await self._persistently(items)
        for (outlet, _, data), taken in zip(groups, answers, strict=True):
            outlet.settled(len(data), taken)
            self._listeners.changed(outlet.info.known_as)

    async def _persistently(self, items: Sequence[StepItems]) -> list[bool]:
        pause = RETRY_FIRST
        while True:
            try:
                return await self._store.streams.emit(items)
            except StoreError as error:
                logger.warning("couldn't write what steps emitted, will try again: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MAX)


def _grouped(batch: Sequence[tuple[Outlet, str, bytes]]) -> list[tuple[Outlet, str, list[bytes]]]:
    """Items in a row of one attempt into one stream belong together; the order of all is kept."""
    groups: list[tuple[Outlet, str, list[bytes]]] = []
    for outlet, stream, data in batch:
        if groups and groups[-1][0] is outlet and groups[-1][1] == stream:
            groups[-1][2].append(data)
        else:
            groups.append((outlet, stream, [data]))
    return groups
